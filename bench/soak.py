"""Half of what the gateway can do, for half an hour: nothing may grow and nothing may fail.

    python -m bench.soak --minutes 30 --share 0.5 [--database postgres]

Whole jobs, each read once by its client. The capacity is measured first. The exit code is 1 when
the median of the resident memory in the last third is over 5% above that in the second, when any
answer was an error, or when the event loop's lag grew.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

import uvloop

from app.core.clock import SystemClock
from app.core.logging import configure_logging
from bench.gateways import Gateway, gateway, postgres
from bench.load import Connection, resident_kb, stub

CLIENTS = 16
_CAPACITY_S = 15.0
_SAMPLES = 180  # at most one a second
_GROWS_AT_MOST = 1.05
_LAG_GROWS_AT_MOST = 1.5
_NEGLIGIBLE_LAG_S = 0.02
_CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    rss_kb: int
    lag_s: float
    """How late the event loop woke its sleeper, on average since the sample before."""
    jobs: int
    errors: int


class Traffic:
    """Clients that submit at a pace and read what they made; without one, as fast as they can."""

    def __init__(self, at: Gateway, *, per_second: float | None) -> None:
        self._at = at
        self._gap_s = None if per_second is None else CLIENTS / per_second
        self.jobs = 0
        self.errors = 0

    async def run(self, seconds: float) -> None:
        ends = _CLOCK.monotonic() + seconds
        await asyncio.gather(*(self._client(n, ends) for n in range(CLIENTS)))

    async def _client(self, number: int, ends: float) -> None:
        connection = await Connection.open(self._at.server.port)
        due = _CLOCK.monotonic() + number * (self._gap_s or 0.0) / CLIENTS
        while _CLOCK.monotonic() < ends:
            await _CLOCK.sleep(timedelta(seconds=max(0.0, due - _CLOCK.monotonic())))
            due = max(_CLOCK.monotonic(), due + self._gap_s) if self._gap_s else 0.0
            try:
                await self._once(connection)
            except ConnectionError:
                self.errors += 1
                connection = await Connection.open(self._at.server.port)
        connection.close()

    async def _once(self, connection: Connection) -> None:
        status, body = await connection.ask(self._at.submit())
        self.errors += status != 202
        job_id = body[7:37].decode(errors="replace")
        status, _ = await connection.ask(self._at.request("GET", f"/v1/jobs/{job_id}"))
        self.errors += status != 200
        self.jobs += 1


async def capacity(at: Gateway, *, seconds: float) -> float:
    """Return how many jobs a second are accepted, sent, polled and settled under full load."""
    traffic, began = Traffic(at, per_second=None), time.perf_counter()
    await traffic.run(seconds)
    while await at.metric(_COMPLETED) < traffic.jobs:
        await _CLOCK.sleep(timedelta(milliseconds=200))
    return traffic.jobs / (time.perf_counter() - began)


_COMPLETED = 'gateway_job_moves_total{state="completed"}'
_LAG = ("gateway_event_loop_lag_seconds_sum", "gateway_event_loop_lag_seconds_count")


async def watch(at: Gateway, traffic: Traffic, *, seconds: float) -> Sequence[Sample]:
    samples, began = list[Sample](), _CLOCK.monotonic()
    gap = timedelta(seconds=max(1.0, seconds / _SAMPLES))
    late, looks = [await at.metric(name) for name in _LAG]
    while _CLOCK.monotonic() - began < seconds:
        await _CLOCK.sleep(gap)
        now_late, now_looks = [await at.metric(name) for name in _LAG]
        lag = (now_late - late) / max(1.0, now_looks - looks)
        late, looks = now_late, now_looks
        passed = _CLOCK.monotonic() - began
        samples.append(Sample(passed, resident_kb(at.pid), lag, traffic.jobs, traffic.errors))
    return samples


def faults(samples: Sequence[Sample]) -> list[str]:
    third = len(samples) // 3
    second, last = samples[third : 2 * third], samples[2 * third :]
    found = []
    grown = median(each.rss_kb for each in last) / median(each.rss_kb for each in second)
    if grown > _GROWS_AT_MOST:
        found.append(f"memory grew by {grown - 1:.1%}")
    before, after = (median(each.lag_s for each in some) for some in (second, last))
    if after > max(_NEGLIGIBLE_LAG_S, before * _LAG_GROWS_AT_MOST):
        found.append(f"the event loop's lag grew from {before * 1000:.1f} to {after * 1000:.1f} ms")
    if errors := samples[-1].errors:
        found.append(f"{errors} answers were errors")
    return found


async def main(arguments: argparse.Namespace, folder: Path) -> int:
    with ExitStack() as stack:
        upstream = stack.enter_context(stub(ending=1))
        url = stack.enter_context(postgres()) if arguments.database == "postgres" else ""
        settings = {"GATEWAY_MAX_IN_FLIGHT": "100000", "GATEWAY_POLLS_PER_SECOND": "100000"}
        async with gateway(
            folder / "gateway",
            name=arguments.database,
            upstream=upstream,
            database_url=url,
            **settings,
        ) as at:
            seconds = 60 * arguments.minutes
            most = await capacity(at, seconds=min(_CAPACITY_S, seconds / 4))
            pace = most * arguments.share
            print(f"capacity {most:.0f} jobs/s, held at {pace:.0f} for {arguments.minutes:g} min")
            traffic = Traffic(at, per_second=pace)
            _, samples = await asyncio.gather(
                traffic.run(seconds), watch(at, traffic, seconds=seconds)
            )
    print("\n| minute | RSS MB | lag ms | jobs | errors |\n|--:|--:|--:|--:|--:|")
    for each in samples[:: max(1, len(samples) // 30)]:
        print(
            f"| {each.at_s / 60:.1f} | {each.rss_kb / 1024:.1f} | {each.lag_s * 1000:.1f} |"
            f" {each.jobs} | {each.errors} |"
        )
    found = faults(samples)
    print("\nNothing grew and nothing failed." if not found else f"\nWrong: {'; '.join(found)}.")
    return 1 if found else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    given = parser.parse_args()
    configure_logging(format="console", level="warning")
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        sys.exit(uvloop.run(main(given, Path(name))))
