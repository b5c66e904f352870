"""The real poller and its queue against an upstream that costs nothing: what one poll costs.

    python -m bench.poller [--database postgresql://...] [--in-flight 10000 100000]

Each size runs in a process of its own; the stub of RunComfy is another. Without --database it is an
SQLite file that is thrown away; a Postgres database must be migrated, and its jobs are deleted.
"""

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import uvloop
from pydantic import SecretStr
from sqlalchemy import create_engine, delete, insert

from app.core.clock import SystemClock
from app.core.doorbell import Doorbell
from app.core.garbage import freeze_loaded_objects
from app.core.logging import configure_logging
from app.core.metrics import Metrics
from app.core.tracing import Tracing
from app.db.engine import open_database, parse_url
from app.db.migrate import upgrade
from app.db.models import ApiKeyRow, JobRow, UserRow
from app.jobs.lanes.accounts import Roster
from app.jobs.queue.config import QueueConfig
from app.jobs.queue.polls import PollQueue
from app.jobs.recorder import Recorder
from app.jobs.timing.forecast import Forecast
from app.jobs.timing.poll_times import PollTimes
from app.jobs.timing.schedule import Pace
from app.net.clients import trusted
from app.upstream.accounts import DEFAULT
from app.upstream.client import UpstreamClient
from app.upstream.wire import RemoteStatus
from app.worker.poller import Poller, PollerConfig
from bench.counted import on_each_statement
from bench.load import ROOT, SYSTEM, on_core, stub

MODEL = "bytedance/seedance-1-0/pro/image-to-video"
ENDING = 0.005
"""The share of polls that find a job at its end."""
_ROUNDS = 3


class Counted(UpstreamClient):
    polls = 0

    async def status(self, request_id: str, *, timeout: timedelta) -> RemoteStatus:  # noqa: ASYNC109
        self.polls += 1
        return await super().status(request_id, timeout=timeout)


def fill(url: str, jobs: int) -> None:
    """Write jobs in progress, all due within some seconds."""
    engine = create_engine(parse_url(url))
    at = datetime.now(UTC)  # noqa: TID251 - what the poller's own clock says
    with engine.begin() as connection:
        connection.execute(delete(JobRow))
        connection.execute(delete(ApiKeyRow))
        connection.execute(delete(UserRow))
        connection.execute(insert(UserRow).values(id="bench", disabled=False, created_at=at))
        key = {"id": "key_1", "user_id": "bench", "name": "", "secret_hash": "", "scopes": []}
        connection.execute(insert(ApiKeyRow).values(**key, created_at=at))
        for start in range(0, jobs, 5000):
            connection.execute(
                insert(JobRow), [_row(n, at) for n in range(start, min(jobs, start + 5000))]
            )
    engine.dispose()


def _row(number: int, at: datetime) -> dict[str, Any]:
    since = at - timedelta(seconds=random.uniform(0, 120))
    return {
        "id": f"job_{number:026}",
        "user_id": "bench",
        "key_id": "key_1",
        "model": MODEL,
        "input_class": "5s 480p",
        "schema_hash": "",
        "input": {"prompt": "x" * 200, "first_frame_image_url": "https://example.com/a.png"},
        "metadata": {},
        "priority": 1,
        "cost_state": "held",
        "state": "in_progress",
        "event_seq": 3,
        "attempts": 1,
        "upstream_request_id": f"request-{number}",
        "due_at": at + timedelta(seconds=random.uniform(-5, 10)),
        "lease_token": "another",
        "lease_expires_at": at,
        "created_at": since,
        "submitted_at": since,
        "started_at": since,
    }


async def bare(client: httpx.AsyncClient, upstream: str, seconds: float) -> float:
    """Return the CPU of one GET by the poller's own HTTP client, and nothing else."""
    ends, calls = time.perf_counter() + seconds, 0
    headers = {"Authorization": "Bearer bench"}

    async def get() -> None:
        nonlocal calls
        while time.perf_counter() < ends:
            answer = await client.get(f"{upstream}/v1/requests/r/status", headers=headers)
            answer.json()
            calls += 1

    before = time.process_time()
    await asyncio.gather(*(get() for _ in range(128)))
    return (time.process_time() - before) / calls


async def measure(url: str, jobs: int, upstream: str, seconds: float) -> dict[str, float]:
    clock, config = SystemClock(), PollerConfig()
    queue = QueueConfig(polls_per_second=100_000, max_in_flight=jobs)
    database = open_database(url)
    reads = trusted(
        timeout=config.timeout, connections=config.polls_at_once, keepalive=timedelta(seconds=30)
    )
    bell, metrics = Doorbell(clock=clock), Metrics()
    client = Counted(
        base_url=upstream,
        token=SecretStr("bench"),
        submits=reads,
        reads=reads,
        metrics=metrics,
        clock=clock,
    )
    poll_times = PollTimes(
        forecast=Forecast(database=database, clock=clock, config=queue.schedule),
        pace=Pace(config=queue.schedule, polls_per_second=queue.polls_per_second),
        job_timeout=queue.job_timeout,
        late_watch=queue.late_watch,
        jitter=random.random,
    )
    poller = Poller(
        queue=PollQueue(
            database=database,
            config=queue,
            roster=Roster(),
            poller="worker",
            times=poll_times,
            clock=clock,
        ),
        recorder=Recorder(
            database=database,
            config=queue,
            metrics=metrics,
            clock=clock,
            deliverer=bell,
        ),
        poll_times=poll_times,
        upstream={DEFAULT: client},
        config=config,
        metrics=metrics,
        tracing=Tracing(),
        clock=clock,
        doorbell=bell,
    )
    freeze_loaded_objects()
    statements = 0

    def count() -> None:
        nonlocal statements
        statements += 1

    async def polled() -> tuple[float, int, float, int]:
        """Return the seconds that passed, polls, CPU and statements."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(poller.loop.run(stop))
            await clock.sleep(timedelta(seconds=1))  # every path is warm by then
            polls, asked = client.polls, statements
            cpu, began = time.process_time(), time.perf_counter()
            await clock.sleep(timedelta(seconds=seconds / _ROUNDS))
            polls, asked = client.polls - polls, statements - asked
            cpu, passed = time.process_time() - cpu, time.perf_counter() - began
            stop.set()
            bell.ring()
        return passed, polls, cpu, asked

    await bare(reads, upstream, 1)  # opens the connections
    gets, rounds = [await bare(reads, upstream, seconds / 8)], []
    on_each_statement(count)
    for _ in range(_ROUNDS):
        rounds.append(await polled())
        gets.append(await bare(reads, upstream, seconds / 8))
    await reads.aclose()
    await database.close()
    cpu_us = [cpu / polls * 1e6 for _, polls, cpu, _ in rounds]
    beside = [(before + after) / 2 * 1e6 for before, after in pairwise(gets)]
    return {
        "in_flight": jobs,
        "polls": median(polls / passed for passed, polls, _, _ in rounds),
        "cpu_us": median(cpu_us),
        "per_get": median(poll / get for poll, get in zip(cpu_us, beside, strict=True)),
        "statements": sum(asked for *_, asked in rounds) / sum(polls for _, polls, *_ in rounds),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def one(arguments: argparse.Namespace) -> None:
    found = uvloop.run(
        measure(arguments.database, arguments.one, arguments.upstream, arguments.seconds)
    )
    print(json.dumps(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    in_flight: int
    polls: float
    cpu_us: float
    per_get: float
    statements: float
    rss_mb: float

    def row(self) -> str:
        return (
            f"{self.in_flight} | {self.polls:.0f} | {self.cpu_us:.0f} |"
            f" {self.per_get:.2f} | {self.statements:.4f} | {self.rss_mb:.0f}"
        )


HEAD = "in flight | polls/s | CPU us per poll | / bare GET | statements per poll | RSS MB"


def measured(database: str, in_flight: Sequence[int], *, seconds: float) -> Iterator[Figures]:
    with tempfile.TemporaryDirectory() as folder, stub(ending=ENDING) as upstream:
        for jobs in in_flight:
            url = database or f"sqlite:///{Path(folder) / f'{jobs}.db'}"
            upgrade(url)
            fill(url, jobs)
            call = ["-m", "bench.poller", f"--one={jobs}", f"--database={url}"]
            with on_core(SYSTEM):
                done = subprocess.run(
                    [sys.executable, *call, f"--upstream={upstream}", f"--seconds={seconds}"],
                    stdout=subprocess.PIPE,
                    check=True,
                    cwd=ROOT,
                )
            yield Figures(**json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", default="")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--upstream", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_logging(format="console", level="warning")
    if arguments.one is not None:
        one(arguments)
    else:
        print(f"| {HEAD} |\n|---|---|---|---|---|---|", flush=True)
        for found in measured(arguments.database, arguments.in_flight, seconds=arguments.seconds):
            print(f"| {found.row()} |", flush=True)


if __name__ == "__main__":
    main()
