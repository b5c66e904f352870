"""Many open streams on one replica, and how soon they learn of what another one did.

    python -m bench.streams --streams 5000

Two `gateway serve` on a Postgres of their own. The reader holds the streams; everything is written
through the other one. Latency is from sending the submit to the event's arrival, so it includes
the accept; `commit to client` is from its 202.
"""

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from app.core.clock import SystemClock
from app.db.migrate import upgrade
from bench.load import cpu_s, resident_kb
from tests.support.gateway import SEEDANCE
from tests.support.keys import make_key
from tests.support.postgres import running_postgres
from tests.support.processes import Server, gateway_process, sandbox_process

INPUT = {"first_frame_image_url": "https://example.com/a.png", "duration": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    streams: int
    opened_in_s: float
    kb_each: float
    mb_in_all: float
    idle_cores: float
    to_the_other: Sequence[float]
    from_commit: Sequence[float]

    def rows(self) -> list[str]:
        return [
            f"opened | {self.streams} in {self.opened_in_s:.1f} s",
            f"memory | {self.kb_each:.1f} kB a stream, {self.mb_in_all:.0f} MB in all",
            f"CPU while nothing happens, heartbeats included | {self.idle_cores:.1%} of a core",
            f"from a submit to a client of the other replica | {_shown(self.to_the_other)}",
            f"from its 202 to that client | {_shown(self.from_commit)}",
        ]


class Client:
    """A stream at the cost of a socket; `arrivals` has when each job's event came."""

    def __init__(self, server: Server, path: str, key: str) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        self._port = server.port
        self.arrivals: dict[str, float] = {}
        self.chunks = 0

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head

    async def read(self) -> None:
        try:
            while line := await self._reader.readline():
                self.chunks += 1
                if line.startswith(b"data: "):
                    self.arrivals.setdefault(json.loads(line[6:])["id"], time.monotonic())
        except ConnectionError:
            pass


async def submit(http: httpx.AsyncClient, prompt: str) -> str:
    answer = await http.post(
        "/v1/jobs", json={"model": SEEDANCE, "input": {"prompt": prompt, **INPUT}}
    )
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def _shown(seconds: Sequence[float]) -> str:
    cuts = quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


def _pid(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


async def measure(streams: int, *, changes: int, idle: timedelta) -> Figures:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database_url = stack.enter_context(running_postgres())
        upgrade(database_url)
        sandbox = await stack.enter_async_context(sandbox_process(folder / "sandbox", speed=1))
        settings: dict[str, Any] = {
            "GATEWAY_DATABASE_URL": database_url,
            "GATEWAY_SECRET_KEY": "0123456789abcdef" * 4,
            "GATEWAY_MAX_STREAMS_PER_USER": str(streams + 10),
            "GATEWAY_LOG_LEVEL": "warning",
        }
        writer, reader = [
            await stack.enter_async_context(
                gateway_process(folder / name, upstream_url=sandbox.url, **settings)
            )
            for name in ("writer", "reader")
        ]
        await asyncio.gather(sandbox.ready(), writer.ready(), reader.ready())
        key = await make_key(database_url)
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=writer.url, headers={"Authorization": f"Bearer {key}"})
        )
        jobs = [await submit(http, f"idle {n} sandbox:stuck-in-queue") for n in range(20)]
        group = await stack.enter_async_context(asyncio.TaskGroup())

        warm = Client(reader, "/v1/events", key)
        await warm.open()
        await clock.sleep(timedelta(seconds=1))
        before = resident_kb(_pid(reader))
        clients = [
            Client(reader, f"/v1/jobs/{jobs[n % len(jobs)]}/events", key) for n in range(streams)
        ]
        began = time.monotonic()
        for start in range(0, streams, 50):
            await asyncio.gather(*(client.open() for client in clients[start : start + 50]))
        opened_in_s = time.monotonic() - began
        readers = [group.create_task(client.read()) for client in [warm, *clients]]
        await clock.sleep(timedelta(seconds=3))
        resident = resident_kb(_pid(reader))
        spent = cpu_s(_pid(reader))
        await clock.sleep(idle)
        spent = cpu_s(_pid(reader)) - spent

        sent, answered = dict[str, float](), dict[str, float]()
        for n in range(changes):
            asked = time.monotonic()
            job_id = await submit(http, f"change {n} sandbox:stuck-in-queue")
            sent[job_id], answered[job_id] = asked, time.monotonic()
        await clock.sleep(timedelta(seconds=2))
        arrived = warm.arrivals
        for task in readers:
            task.cancel()
        return Figures(
            streams=streams,
            opened_in_s=opened_in_s,
            kb_each=(resident - before) / streams,
            mb_in_all=resident / 1024,
            idle_cores=spent / idle.total_seconds(),
            to_the_other=[arrived[job] - sent[job] for job in sent],
            from_commit=[max(0.0, arrived[job] - answered[job]) for job in sent],
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=300)
    given = parser.parse_args()
    figures = asyncio.run(measure(given.streams, changes=given.changes, idle=timedelta(seconds=20)))
    for row in figures.rows():
        print(row.replace(" | ", ": ", 1))
