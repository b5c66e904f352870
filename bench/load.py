"""What every measurement needs: load from one core, the system under test alone on another.

The client is as lean as it can be made, so that what is measured is the other side.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import cast

import httptools

ROOT = Path(__file__).parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
_CORES = sorted(os.sched_getaffinity(0))
LOAD, SYSTEM = _CORES[0], _CORES[-1]
"""The core of load generator, stub and Postgres, and that of the system under test."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run whatever is started in the block, and its children, on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def stub(*, ending: float) -> Iterator[str]:
    """Run the upstream that costs nothing, and yield its URL."""
    with on_core(LOAD):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.stub", f"--ending={ending}"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and its children have used."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS + sum(map(cpu_s, _children(pid)))


def resident_kb(pid: int) -> int:
    own = resident_kb_in(Path(f"/proc/{pid}/status").read_text())
    return own + sum(map(resident_kb, _children(pid)))


def resident_kb_in(status: str) -> int:
    """Read it off the text of /proc/PID/status."""
    return int(status.split("VmRSS:")[1].split(maxsplit=1)[0])


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


class Connection(asyncio.Protocol):
    """One request at a time; `ask` gives the status and the body."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        return connection

    def ask(self, request: bytes) -> Awaitable[tuple[int, bytes]]:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        assert self._answer is not None
        if not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._body)))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed before the answer"))


def request(method: str, path: str, *, token: str, body: bytes = b"", prefer: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {token}"]
    if prefer:
        lines.append(f"Prefer: {prefer}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    times: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float

    @staticmethod
    def median(rounds: Sequence["Figures"]) -> "Figures":
        return Figures(
            times=sum(each.times for each in rounds),
            per_second=median(each.per_second for each in rounds),
            p50_ms=median(each.p50_ms for each in rounds),
            p99_ms=median(each.p99_ms for each in rounds),
            cpu_us=median(each.cpu_us for each in rounds),
        )


Turn = Callable[[], Awaitable[float]]
"""One action of one connection; returns the seconds that count."""


async def drive(turns: Sequence[Turn], *, seconds: float, pid: int) -> Figures:
    """Let each connection repeat its turn, and return the figures."""
    ends, taken = time.perf_counter() + seconds, list[float]()

    async def repeat(turn: Turn) -> None:
        while time.perf_counter() < ends:
            taken.append(await turn())

    spent, began = cpu_s(pid), time.perf_counter()
    await asyncio.gather(*map(repeat, turns))
    passed, spent = time.perf_counter() - began, cpu_s(pid) - spent
    taken.sort()
    return Figures(
        times=len(taken),
        per_second=len(taken) / passed,
        p50_ms=taken[len(taken) // 2] * 1000,
        p99_ms=taken[len(taken) * 99 // 100] * 1000,
        cpu_us=spent / len(taken) * 1e6,
    )


async def ask_again_and_again(
    port: int, sent: bytes, *, expects: int, connections: int, seconds: float, pid: int
) -> Figures:
    """Send one request over so many connections; any status other than `expects` ends it all."""
    opened = [await Connection.open(port) for _ in range(connections)]

    def turn_of(connection: Connection) -> Turn:
        async def turn() -> float:
            began = time.perf_counter()
            status, body = await connection.ask(sent)
            passed = time.perf_counter() - began
            if status != expects:
                raise AssertionError(f"{status} instead of {expects}: {body[:300]!r}")
            return passed

        return turn

    try:
        return await drive([turn_of(each) for each in opened], seconds=seconds, pid=pid)
    finally:
        for connection in opened:
            connection.close()
