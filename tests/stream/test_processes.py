"""Real processes, killed and stopped while they work: nothing accepted is lost, or sent twice."""

import asyncio
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.clock import SystemClock
from tests.support.gateway import SEEDANCE
from tests.support.invariants import assert_invariants, read_jobs
from tests.support.keys import make_key
from tests.support.processes import (
    COMMAND,
    Server,
    gateway_process,
    sandbox_process,
    worker_process,
)
from tests.support.receiver import receiving
from tests.support.rows import look
from tests.support.turns import turns

SETTLED = {"completed", "failed", "cancelled", "submit_unknown"}
SETTLED_WITHIN_S = 150
MOST_JOBS = 150
EXITS_WITHIN_S = 60  # alone on a machine it is a second; a busy one is no fault
HEARS_HANGUP = "env --default-signal=HUP"  # though the tests may run under nohup
_LOOK = timedelta(milliseconds=50)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Server]:
    async with sandbox_process(tmp_path / "sandbox", speed=10) as server:
        yield server


@pytest.fixture
async def gateway(tmp_path: Path, sandbox: Server) -> AsyncIterator[Server]:
    settings = {
        "GATEWAY_WEBHOOK_NETWORKS": "127.0.0.0/8",
        # Longer than any test waits: who starts ends what the process before it held.
        "GATEWAY_LEASE_SECONDS": "1200",
    }
    async with gateway_process(
        tmp_path / "gateway", upstream_url=sandbox.url, **settings
    ) as server:
        yield server


@pytest.fixture
async def http(gateway: Server, sandbox: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Yield alice's client once both processes answer; it outlives the gateways of its test."""
    await asyncio.gather(gateway.ready(), sandbox.ready())
    key = await make_key(database_of(gateway))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:
        yield client


def database_of(gateway: Server) -> str:
    return f"sqlite:///{gateway.folder / 'gateway.db'}"


def left_by_demo(folder: Path) -> list[Path]:
    return list(folder.glob("gateway-demo-*/*"))


@asynccontextmanager
async def started_by_shell(folder: Path, script: str) -> AsyncIterator[Server]:
    """Serve as a start script does whose last line is `script`."""
    shell = folder / "shell"
    shell.write_text(f"#!/bin/sh\n{script}\n")
    shell.chmod(0o755)
    address = "http://127.0.0.1:9"  # of nobody
    async with gateway_process(folder / "gateway", upstream_url=address, command=shell) as gateway:
        await gateway.ready()
        yield gateway


async def submit(http: httpx.AsyncClient, prompt: str, **more: str) -> dict[str, Any] | None:
    """Submit once; None when the gateway died before it answered."""
    picture = "https://example.com/a.png"
    body = {"prompt": prompt, "first_frame_image_url": picture, "duration": 2}
    try:
        answer = await http.post("/v1/jobs", json={"model": SEEDANCE, "input": body, **more})
    except httpx.TransportError:
        return None
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def posts(sandbox: Server) -> Counter[str]:
    async with httpx.AsyncClient(base_url=sandbox.url, timeout=60) as http:
        seen = (await http.get("/sandbox/requests")).json()["requests"]
    return Counter((each["input"] or {}).get("prompt") for each in seen)


async def read(http: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    answer = await http.get(f"/v1/jobs/{job['id']}")
    assert answer.status_code == 200, "an accepted job is lost"
    now: dict[str, Any] = answer.json()
    return now


async def settled(http: httpx.AsyncClient, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Wait until upstream has nothing more to do with any of the jobs."""
    seen = []
    async with asyncio.timeout(SETTLED_WITHIN_S):
        for job in jobs:
            while (now := await read(http, job))["status"] not in SETTLED:
                await SystemClock().sleep(_LOOK)
            seen.append(now)
    return seen


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def more_than(accepted: list[dict[str, Any]], number: int) -> None:
    while len(accepted) <= number:
        await SystemClock().sleep(_LOOK)


async def test_as_many_connections_are_open_as_the_machine_allows_not_the_shell(
    tmp_path: Path,
) -> None:
    script = f'ulimit -Sn 64\nexec {COMMAND} "$@"'
    async with started_by_shell(tmp_path, script) as gateway, AsyncExitStack() as stack:
        for _ in range(100):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            stack.callback(writer.close)
        async with httpx.AsyncClient(timeout=60) as http:
            assert (await http.get(gateway.url + "/healthz")).status_code == 200


async def test_whoever_closes_the_standard_streams_may_still_stop_it(tmp_path: Path) -> None:
    async with started_by_shell(
        tmp_path, f'exec {HEARS_HANGUP} {COMMAND} "$@" <&- >&- 2>&-'
    ) as gateway:
        await gateway.stop(signal.SIGHUP)  # as of a terminal that is closed; with exit code 0


async def test_a_terminal_that_is_closed_ends_nothing_after_nohup(tmp_path: Path) -> None:
    async with started_by_shell(tmp_path, f'exec nohup {COMMAND} "$@"') as gateway:
        assert gateway.process is not None
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as http:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                while (await http.get("/readyz")).is_error:  # its workers have told nothing yet
                    await SystemClock().sleep(_LOOK)
            gateway.process.send_signal(signal.SIGHUP)
            assert (await http.get("/readyz")).status_code == 200
        await gateway.stop()


async def test_a_start_that_is_told_to_stop_ends_in_order(tmp_path: Path) -> None:
    """In a container it is process 1, to which a signal means nothing before it says what."""
    file, nowhere = tmp_path / "gateway.db", "http://127.0.0.1:9"
    settings = {"GATEWAY_DATABASE_URL": f"sqlite:///{file}"}
    with closing(sqlite3.connect(file, isolation_level=None)) as rival:
        rival.execute("BEGIN EXCLUSIVE")  # so that it waits to make its tables
        async with gateway_process(tmp_path / "gateway", upstream_url=nowhere, **settings) as one:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                while not await listens(one.port):
                    await SystemClock().sleep(_LOOK)
            async with asyncio.TaskGroup() as group:
                group.create_task(one.stop())  # with exit code 0
                await turns()
                rival.rollback()


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP])
async def test_a_demo_that_is_told_to_stop_leaves_nothing(
    told: signal.Signals, tmp_path: Path
) -> None:
    demo = await asyncio.create_subprocess_shell(
        f"exec {HEARS_HANGUP} {COMMAND} demo --output=demo.mp4",
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while not left_by_demo(tmp_path):
            await SystemClock().sleep(_LOOK)
        demo.send_signal(told)
        await demo.wait()
    assert left_by_demo(tmp_path) == []


@pytest.mark.timeout(400)
async def test_processes_killed_at_any_moment_lose_no_job_and_send_none_twice(
    gateway: Server, sandbox: Server, http: httpx.AsyncClient
) -> None:
    draw = random.Random(4711)
    accepted: list[dict[str, Any]] = []
    takes = count()

    async def client(stop: asyncio.Event) -> None:
        while not stop.is_set():
            job = await submit(http, f"take {next(takes)}")
            if job is None:
                await SystemClock().sleep(_LOOK)
            else:
                accepted.append(job)
                if len(accepted) > MOST_JOBS:
                    return

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as clients:
        for _ in range(4):
            clients.create_task(client(stop))
        for victims in ([gateway], [sandbox, gateway]):
            await more_than(accepted, min(len(accepted) + 5, MOST_JOBS))
            for victim in victims:
                await SystemClock().sleep(timedelta(seconds=draw.uniform(0.1, 0.6)))
                await victim.kill()
            await asyncio.gather(*(victim.start() for victim in victims))
            await asyncio.gather(*(victim.ready() for victim in victims))
        stop.set()

    done = await settled(http, accepted)
    assert len(done) >= 10
    assert {job["status"] for job in done} <= {"completed", "submit_unknown"}
    sent = await posts(sandbox)
    for job in done:
        assert sent[job["input"]["prompt"]] <= 1
        if job["status"] == "completed":
            assert sent[job["input"]["prompt"]] == 1
    assert max(sent.values()) == 1
    await gateway.kill()
    await assert_invariants(database_of(gateway))


async def test_a_stop_records_what_is_being_sent_and_another_process_goes_on(
    gateway: Server, sandbox: Server, http: httpx.AsyncClient
) -> None:
    silent = await submit(http, "nobody answers sandbox:lost-answer=hang")
    slow = await submit(http, "this one takes a while sandbox:queue=20 sandbox:slow=80")
    kept = await submit(http, "no word on its cancel sandbox:stuck-in-queue sandbox:cancel-hang=99")
    assert silent is not None
    assert kept is not None
    assert slow is not None
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while (await posts(sandbox)).total() < 3:
            await SystemClock().sleep(_LOOK)
        while (await http.get(f"/v1/jobs/{kept['id']}")).json()["status"] != "in_queue":
            await SystemClock().sleep(_LOOK)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(http.post(f"/v1/jobs/{kept['id']}/cancel"))
        while (await read_jobs(database_of(gateway)))[kept["id"]][0].cancel_requested_at is None:
            await SystemClock().sleep(_LOOK)
        assert await gateway.stop() < EXITS_WITHIN_S
    assert waiting.result().status_code == 202
    assert waiting.result().json()["outcome"] == "cancel_requested"
    await assert_invariants(database_of(gateway))
    rows = await read_jobs(database_of(gateway))
    assert rows[silent["id"]][0].state == "submit_unknown"
    assert rows[slow["id"]][0].state in {"in_queue", "in_progress"}

    async with worker_process(gateway, f"--port={gateway.port}") as worker:
        async with asyncio.timeout(SETTLED_WITHIN_S):
            while (await read_jobs(database_of(gateway)))[slow["id"]][0].state != "completed":
                await SystemClock().sleep(_LOOK)
        for path in ("/healthz", "/readyz"):
            assert (await http.get(path)).status_code == 200
        assert "gateway_serving 0.0" in (await http.get("/metrics")).text
        for path in ("/v1/jobs", "/openapi.json", "/docs"):
            assert (await http.get(path)).status_code == 404
        worker.terminate()
        async with asyncio.timeout(EXITS_WITHIN_S):
            assert await worker.wait() == 0
    await assert_invariants(database_of(gateway))
    rows = await read_jobs(database_of(gateway))
    assert rows[silent["id"]][0].state == "submit_unknown"
    assert set((await posts(sandbox)).values()) == {1}


async def test_a_stop_answers_uploads_that_do_not_end_and_keeps_nothing_of_them(
    gateway: Server, http: httpx.AsyncClient
) -> None:
    half = (
        b"POST /v1/files HTTP/1.1\r\nHost: gateway\r\nContent-Type: image/png\r\n"
        b"Content-Length: 9000000\r\nAuthorization: %b\r\n\r\n\x89PNG\r\n\x1a\n%b"
        % (http.headers["Authorization"].encode(), bytes(100_000))
    )
    uploads = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(6)]
    for _, writer in uploads:
        writer.write(half)
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while len(look(database_of(gateway), "SELECT id FROM files")) < len(uploads):
            await SystemClock().sleep(_LOOK)
    async with asyncio.TaskGroup() as group:
        group.create_task(gateway.stop())
        answers = [await reader.read() for reader, _ in uploads]
    for _, writer in uploads:
        writer.close()
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 503 "] * len(uploads)
    assert "request.failed" not in (gateway.folder / "log").read_text()
    assert look(database_of(gateway), "SELECT id FROM files") == []


@pytest.mark.timeout(400)
async def test_a_worker_that_knows_no_address_leaves_messages_to_those_that_serve(
    gateway: Server, http: httpx.AsyncClient
) -> None:
    async with receiving() as receiver:
        job = await submit(http, "sandbox:queue=5", webhook_url=receiver.url)
        assert job is not None
        await gateway.stop()
        async with worker_process(gateway), asyncio.timeout(SETTLED_WITHIN_S):
            while (await read_jobs(database_of(gateway)))[job["id"]][0].state != "completed":
                await SystemClock().sleep(_LOOK)
        await gateway.start()
        async with asyncio.timeout(SETTLED_WITHIN_S):
            while not receiver.messages:
                await SystemClock().sleep(_LOOK)
        assert receiver.last.payload["data"]["urls"]["self"].startswith(gateway.url)
