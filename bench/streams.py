"""Many open streams on one replica, and how soon they learn of what another one did.

    python -m bench.streams --streams 5000

Two `gateway serve` on a Postgres of their own. The reader holds the streams; everything is written
through the other one. Latency is from sending the submit to the event's arrival, so it has the
accept in it; `commit to client` is from its 202.
"""

import argparse
import asyncio
import json
import os
import resource
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from statistics import quantiles

import httpx

from app.auth.service import AuthService
from app.core.clock import SystemClock
from app.db.engine import open_database
from app.db.migrate import upgrade
from tests.support.gateway import SEEDANCE
from tests.support.postgres import running_postgres
from tests.support.processes import Server, gateway_process, sandbox_process

TICKS = os.sysconf("SC_CLK_TCK")
INPUT = {"first_frame_image_url": "https://example.com/a.png", "duration": 2}


def resident_kb(server: Server) -> int:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def cpu_s(server: Server) -> float:
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


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


def shown(name: str, seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100)
    return f"{name}: p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


async def main(streams: int, changes: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database_url = stack.enter_context(running_postgres())
        upgrade(database_url)
        sandbox = await stack.enter_async_context(sandbox_process(folder / "sandbox", speed=1))
        settings = {
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
        database = open_database(database_url)
        auth = AuthService(database=database, clock=clock)
        key = str(await auth.create_key(user_id="alice", name="bench"))
        await database.close()
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=writer.url, headers={"Authorization": f"Bearer {key}"})
        )
        jobs = [await submit(http, f"idle {n} sandbox:stuck-in-queue") for n in range(20)]
        group = await stack.enter_async_context(asyncio.TaskGroup())

        warm = Client(reader, "/v1/events", key)
        await warm.open()
        await clock.sleep(timedelta(seconds=1))
        before = resident_kb(reader)
        clients = [
            Client(reader, f"/v1/jobs/{jobs[n % len(jobs)]}/events", key) for n in range(streams)
        ]
        began = time.monotonic()
        for start in range(0, streams, 50):
            await asyncio.gather(*(client.open() for client in clients[start : start + 50]))
        print(f"{streams} streams opened in {time.monotonic() - began:.1f} s")
        readers = [group.create_task(client.read()) for client in [warm, *clients]]
        await clock.sleep(timedelta(seconds=3))
        print(
            f"memory: {(resident_kb(reader) - before) / streams:.1f} kB a stream,"
            f" {resident_kb(reader) // 1024} MB in all"
        )
        spent = cpu_s(reader)
        await clock.sleep(timedelta(seconds=20))
        print(f"idle: {(cpu_s(reader) - spent) / 20:.1%} of a core, heartbeats included")

        sent, answered = {}, {}
        for n in range(changes):
            start = time.monotonic()
            job_id = await submit(http, f"change {n} sandbox:stuck-in-queue")
            sent[job_id], answered[job_id] = start, time.monotonic()
        await clock.sleep(timedelta(seconds=2))
        arrived = warm.arrivals
        print(shown("submit to client of the other replica", [arrived[j] - sent[j] for j in sent]))
        print(shown("commit to client", [max(0.0, arrived[j] - answered[j]) for j in sent]))
        for task in readers:
            task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=300)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.streams, arguments.changes))
