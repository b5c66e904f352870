"""Following many jobs at rest costs the database next to nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.core.clock import ManualClock
from tests.support.gateway import Gateway, Sandbox
from tests.support.turns import turns
from tests.support.workbench import Workbench, workbench

pytestmark = pytest.mark.either_database

JOBS = 200


@pytest.fixture
async def bench(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[Workbench]:
    async with workbench(
        database_url,
        upstream_url=sandbox.url,
        clock=clock,
        max_in_flight=JOBS,
        polls_per_second=1000,
    ) as made:
        yield made


async def test_a_poll_that_finds_nothing_new_writes_nothing_but_its_claim(
    gateway: Gateway, bench: Workbench
) -> None:
    for _ in range(3):
        await gateway.submit("sandbox:stuck sandbox:queue=0")
    await bench.dispatcher.loop.run_once()
    gateway.wait(2)
    assert await bench.poller.loop.run_once() == 3, "they are in progress now"
    gateway.wait(20)
    leases = await bench.poller.claim(64)
    bench.database.statements.clear()
    for lease in leases:
        await bench.poller.poll(lease)
    assert bench.database.statements == []


async def test_the_loop_itself_polls_many_with_few_statements(
    gateway: Gateway, bench: Workbench
) -> None:
    await asyncio.gather(*(gateway.submit("sandbox:stuck-in-queue") for _ in range(JOBS)))
    while await bench.dispatcher.loop.run_once():
        pass
    gateway.wait(20)
    await bench.poller.loop.run_once()  # which writes the places in upstream's queue
    requests = (await gateway.sandbox.http.get("/sandbox/requests")).json()["calls"]
    before = sum(calls["status"] for calls in requests.values())
    bench.database.statements.clear()
    stop = asyncio.Event()
    running = asyncio.ensure_future(bench.poller.loop.run(stop))
    for round_ in range(1, 4):
        gateway.wait(20)
        while True:
            await turns(200)  # a look costs more than many polls
            requests = (await gateway.sandbox.http.get("/sandbox/requests")).json()["calls"]
            polls = sum(calls["status"] for calls in requests.values()) - before
            if polls >= round_ * JOBS:
                break
    stop.set()
    gateway.wait(20)
    await running
    assert polls == 3 * JOBS
    statements = [each for each in bench.database.statements if not each.startswith("BEGIN")]
    assert len(statements) / polls <= 0.05


async def test_what_is_learned_at_once_is_written_at_once(
    gateway: Gateway, bench: Workbench
) -> None:
    await asyncio.gather(*(gateway.submit("sandbox:queue=0 sandbox:stuck") for _ in range(JOBS)))
    while await bench.dispatcher.loop.run_once():
        pass
    gateway.wait(20)
    await bench.poller.claim(0)
    bench.database.statements.clear()
    assert await bench.poller.loop.run_once() == JOBS
    assert len([each for each in bench.database.statements if "UPDATE jobs" in each]) <= 8
    listed = await gateway.http.get("/v1/jobs", params={"status": "in_queue"})
    assert listed.json()["data"] == []


async def test_at_rest_each_round_is_one_look(gateway: Gateway, bench: Workbench) -> None:
    await gateway.submit("sandbox:stuck-in-queue")
    await bench.dispatcher.loop.run_once()
    await bench.poller.loop.run_once()  # reads what was learned, which it does every ten seconds
    bench.database.statements.clear()
    assert await bench.dispatcher.loop.run_once() == 0
    assert await bench.poller.loop.run_once() == 0
    looks = [each for each in bench.database.statements if not each.startswith("BEGIN")]
    assert [each.split()[0] for each in looks] == ["SELECT", "SELECT"]


async def test_after_a_rush_a_job_is_polled_as_often_as_before(
    gateway: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with workbench(
        database_url, upstream_url=sandbox.url, clock=clock, polls_per_second=2
    ) as bench:
        last, *others = [(await gateway.submit("sandbox:stuck"))["id"] for _ in range(60)]
        for _ in range(2):
            await bench.dispatcher.loop.run_once()
        shown = await gateway.admin.get(f"/v1/admin/jobs/{last}")
        request_id = shown.json()["upstream_request_id"]

        async def polls_in_a_minute() -> int:
            async def polls() -> int:
                calls = (await sandbox.http.get("/sandbox/requests")).json()["calls"]
                count: int = calls.get(request_id, {}).get("status", 0)
                return count

            before = await polls()
            for _ in range(60):
                clock.advance(timedelta(seconds=1))
                await bench.poller.loop.run_once()
            return await polls() - before

        assert await polls_in_a_minute() < 5
        for job in others:
            await gateway.admin.post(f"/v1/admin/jobs/{job}/fail")
        for _ in range(3):
            await polls_in_a_minute()
        assert await polls_in_a_minute() > 20
