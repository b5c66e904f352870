"""Random bytes for all that reads what others send: it may only raise its declared refusals.

    python -m bench.fuzz --minutes 5 [--seed 7] [--only "event cursors"]

Real samples are changed at random, byte by byte or, where they are JSON, value by value, and given
to each parser in turn. The exit code is 1 if any raised what it does not declare, or took over a
second of CPU time.
"""

import argparse
import asyncio
import json
import random
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.logging import configure_logging
from bench.fuzzed import Parser, parsers

_SLICE_S = 0.25
_LONGEST_S = 1.0
_SHOWN = 300  # bytes of a sample that broke it
_MOST_CHANGES = 6
_LONGEST_SAMPLE = 256 * 1024
_MARKS = (
    *(b"\0", b"\xff", b"\x80", b"\xc3\x28", b"\xed\xa0\x80", b"\r\n", b"\n", b" ", b'"', b"'"),
    *(b",", b";", b"=", b"-", b"--", b".", b"/", b"\\", b"%", b"%00", b"*", b"[", b"{", b"]", b"}"),
    *(b"9" * 20, b"9" * 5000, b"-1", b"1e999", b"NaN", b"0x7f", b"\xe2\x80\xae", b"\xef\xbc\x8e"),
    *(b"[" * 3000, b'{"a":' * 500, b"x" * 10_000, b"\\ud800", b"\\u0000", "é٣½".encode()),
)
_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, -0.0, float("nan"), 2**31, 2**63, 2**64, 10**400),
    *("", "\0", "\ud800", "5", "1e400", "é", "x" * 5000, "\u202e", "true", "null", "NaN"),
    *([], {}, [[]], [None], {"": ""}, {"url": []}, [{}] * 50, {"$ref": "#"}, {"type": "array"}),
    *("https://127.0.0.1/", "https://example.com/a", "data:image/png;base64,AAAA", "2026-11-22"),
)


@dataclass
class Tally:
    """What became of one parser; `odd` are samples by the place that broke."""

    executions: int = 0
    refused: int = 0
    spent_s: float = 0.0
    slowest_s: float = 0.0
    odd: dict[str, bytes] = field(default_factory=dict)


class Mutator:
    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def mutated(self, samples: Sequence[bytes]) -> bytes:
        """Change one of the samples in one to six places."""
        data = self._dice.choice(samples)
        if self._dice.random() < 0.5 and (value := _read(data)) is not None:
            for _ in range(self._dice.randint(1, _MOST_CHANGES)):
                value = self._grafted(value)
            data = json.dumps(value).encode()
            if self._dice.random() < 0.8:
                return data
        for _ in range(self._dice.randint(1, _MOST_CHANGES)):
            data = self._changed(data, samples)
        return data[:_LONGEST_SAMPLE]

    def _changed(self, data: bytes, samples: Sequence[bytes]) -> bytes:
        dice = self._dice
        at = dice.randint(0, len(data))
        end = min(at + dice.choice((1, 1, 2, 4, 16, 64)), len(data))
        cut = data[at:end]
        match dice.randrange(8):
            case 0:
                new = dice.randbytes(max(len(cut), 1))
            case 1:
                new = b""
            case 2:
                new = dice.choice(_MARKS)
            case 3:
                new = dice.choice(_MARKS) + cut
            case 4:
                new = cut * dice.choice((2, 3, 100))
            case 5:
                other = dice.choice(samples)
                new, end = other[dice.randint(0, len(other)) :], len(data)
            case 6:
                new, end = b"", len(data)
            case _:
                new = bytes(byte ^ 1 << dice.randrange(8) for byte in cut)
        return data[:at] + new + data[end:]

    def _grafted(self, value: Any) -> Any:
        """Put something else in place of one value of a document, or beside it."""
        dice = self._dice
        if not value or not isinstance(value, dict | list) or dice.random() < 0.2:
            return dice.choice(_ODD_VALUES)
        if isinstance(value, list):
            at = dice.randrange(len(value))
            return [*value[:at], self._grafted(value[at]), *value[at + dice.randint(0, 1) :]]
        name = dice.choice(list(value))
        match dice.randrange(6):
            case 0:
                return {other: item for other, item in value.items() if other != name}
            case 1:
                named = dice.choice(("", "\0", "\ud800", "$ref", "__proto__", "a/b~c", "x" * 300))
                return value | {named: value[name]}
            case 2:
                return value | {name: value[dice.choice(list(value))]}
            case _:
                return value | {name: self._grafted(value[name])}


def _read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


async def _try(parser: Parser, data: bytes, tally: Tally) -> None:
    began = time.process_time()
    try:
        await parser.read(data)
    except parser.own:
        tally.refused += 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as exc:  # noqa: BLE001 - a panic of compiled code is no Exception
        tally.odd.setdefault(_place(exc), data)
    took = time.process_time() - began
    tally.executions += 1
    tally.slowest_s = max(tally.slowest_s, took)
    if took > _LONGEST_S:
        tally.odd.setdefault("took too long", data)


def _place(exc: BaseException) -> str:
    frames = traceback.extract_tb(exc.__traceback__)
    ours = [frame for frame in frames if "/app/" in frame.filename] or frames
    file = ours[-1].filename.rpartition("/app/")[2]
    return f"{type(exc).__name__} at {file}:{ours[-1].lineno}, {exc}"[:200]


async def fuzz(chosen: Sequence[Parser], *, minutes: float, seed: int) -> dict[str, Tally]:
    """Give every parser its turn, again and again, until time is up."""
    mutator = Mutator(seed)
    tallies = {parser.name: Tally() for parser in chosen}
    for parser in chosen:  # real samples must be accepted, or changing them shows nothing
        for sample in parser.samples:
            await _try(parser, sample, tallies[parser.name])
    ends = time.monotonic() + minutes * 60
    while time.monotonic() < ends:
        for parser in chosen:
            tally, began = tallies[parser.name], time.monotonic()
            while time.monotonic() - began < _SLICE_S:
                await _try(parser, mutator.mutated(parser.samples), tally)
            tally.spent_s += time.monotonic() - began
    return tallies


def report(tallies: dict[str, Tally]) -> None:
    print("| parser | executions | a second | refused | slowest | odd |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, tally in tallies.items():
        rate = tally.executions / max(tally.spent_s, 0.001)
        print(
            f"| {name} | {tally.executions:,} | {rate:,.0f} | {tally.refused:,} "
            f"| {tally.slowest_s * 1000:.1f} ms | {len(tally.odd)} |"
        )
    print(f"| all | {sum(each.executions for each in tallies.values()):,} | | | | |")
    for name, tally in tallies.items():
        for place, data in tally.odd.items():
            print(f"\n{name}: {place}\n  {data[:_SHOWN]!r} ({len(data)} bytes)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", help="the name of one parser")
    options = parser.parse_args()
    configure_logging(format="json", level="error")
    chosen = [each for each in parsers() if options.only in (None, each.name)]
    if not chosen:
        parser.error(f"there is no {options.only!r}; there are {[each.name for each in parsers()]}")
    print(f"Seed {options.seed}.\n")
    tallies = asyncio.run(fuzz(chosen, minutes=options.minutes, seed=options.seed))
    report(tallies)
    return int(any(tally.odd for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
