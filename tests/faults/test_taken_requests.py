"""RunComfy names a request that another job has: its film is not shown, or paid for, twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.core.clock import ManualClock
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.invariants import assert_invariants, event_types, read_jobs
from tests.support.wire_server import answer, answers, wire_server


@pytest.fixture
async def rival(database_url: str, sandbox: Sandbox, clock: ManualClock) -> AsyncIterator[Gateway]:
    async with running(database_url, sandbox=sandbox, clock=clock) as running_one:
        yield running_one


async def events_of(gateway: Gateway, job: dict[str, Any]) -> list[dict[str, Any]]:
    read = (await gateway.admin.get(f"/v1/admin/jobs/{job['id']}")).json()
    events: list[dict[str, Any]] = read["events"]
    return events


async def test_a_job_that_is_given_anothers_request_is_left_to_an_operator(
    database_url: str, clock: ManualClock
) -> None:
    the_same = answer(200, {"request_id": "req_the_same"})
    async with (
        wire_server(answers(the_same, the_same)) as server,
        httpx.AsyncClient(base_url=server.url) as http,
        running(database_url, sandbox=Sandbox(url=server.url, http=http), clock=clock) as gateway,
    ):
        first, second = await gateway.submit(), await gateway.submit()
        for _ in range(2):
            await gateway.dispatch()
        assert len(server.received) == 2
        held = {"amount_usd": None, "output_seconds": 2, "state": "held"}
        seen = {job["id"]: await gateway.read(job) for job in (first, second)}
        assert sorted(job["status"] for job in seen.values()) == ["in_queue", "submit_unknown"]
        assert [job["cost"] for job in seen.values()] == [held, held]
        [holder] = [id_ for id_, job in seen.items() if job["status"] == "in_queue"]
        [other] = [job for job in seen.values() if job["status"] == "submit_unknown"]
        assert (await events_of(gateway, other))[-1]["data"] == {
            "reason": f"The request 'req_the_same' is that of {holder}; look for another one."
        }
        assert await gateway.dispatch() == 0
    await assert_invariants(database_url)


async def test_of_two_replicas_that_are_given_one_request_one_keeps_it(
    gateway: Gateway, rival: Gateway, database_url: str
) -> None:
    jobs = [await gateway.submit("sandbox:instant") for _ in range(2)]
    [first] = await gateway.workers.dispatcher.claim(1)
    [second] = await rival.workers.dispatcher.claim(1)
    request_id = await gateway.workers.dispatcher.send(first)
    await asyncio.gather(
        gateway.workers.dispatcher.follow(first.lease, request_id),
        rival.workers.dispatcher.follow(second.lease, request_id),
    )
    statuses = [(await gateway.read(job))["status"] for job in jobs]
    assert sorted(statuses) == ["in_queue", "submit_unknown"]
    await assert_invariants(database_url)


async def test_anothers_request_that_comes_late_is_kept_and_not_watched(
    gateway: Gateway, database_url: str
) -> None:
    done = await gateway.follow(await gateway.submit("sandbox:instant"))
    row, _ = (await read_jobs(database_url))[done["id"]]
    job = await gateway.submit("sandbox:instant")
    [attempt] = await gateway.workers.dispatcher.claim(32)
    gateway.wait(31)
    await gateway.dispatch()
    for status in ("submit_unknown", "failed"):
        assert (await gateway.read(job))["status"] == status
        await gateway.workers.dispatcher.follow(attempt.lease, row.upstream_request_id)
        await gateway.poll()
        gateway.wait(25 * 3600)
        await gateway.dispatch()
    assert (await gateway.read(job))["status"] == "failed"
    assert (await event_types(database_url, job))[2:] == [
        "submit_unknown",
        "late_request_id",
        "failed",
        "late_request_id",
    ]
    await assert_invariants(database_url)
