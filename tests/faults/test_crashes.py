"""A gateway that dies between any two steps of a submit, and the one that comes after it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from app.core.clock import ManualClock
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.invariants import event_types

Revive = Callable[[Gateway], Awaitable[None]]


@pytest.fixture
def revive(database_url: str) -> Revive:
    """Do what lets a process go on with the work of a dead one."""

    async def leases_run_out(second: Gateway) -> None:
        second.wait(31)

    async def leases_are_freed(second: Gateway) -> None:
        """On SQLite the process that starts knows that it is alone."""
        await second.app.state.parts.free_leases()

    return leases_are_freed if database_url.startswith("sqlite") else leases_run_out


@pytest.fixture
async def second(database_url: str, sandbox: Sandbox, clock: ManualClock) -> AsyncIterator[Gateway]:
    """Open another gateway on the database of the first, which from now on may be dead."""
    async with running(database_url, sandbox=sandbox, clock=clock) as running_one:
        yield running_one


async def sent(sandbox: Sandbox, job: dict[str, Any]) -> int:
    return len(await sandbox.submits(job))


async def test_accepted_and_not_claimed_it_is_sent(
    gateway: Gateway, second: Gateway, sandbox: Sandbox, revive: Revive
) -> None:
    job = await gateway.submit()
    await revive(second)
    done = await second.follow(job)
    assert done["status"] == "completed"
    assert await sent(sandbox, job) == 1


async def test_claimed_and_not_sent_it_is_unknown_and_stays_unsent(
    gateway: Gateway, second: Gateway, sandbox: Sandbox, revive: Revive, database_url: str
) -> None:
    job = await gateway.submit()
    [attempt] = await gateway.workers.dispatcher.claim(32)
    assert attempt.lease.job_id == job["id"]
    assert await second.dispatch() == 0
    assert (await second.read(job))["status"] == "pending"

    await revive(second)
    for _ in range(3):
        assert await second.dispatch() == 0
        assert await second.poll() == 0
        second.wait(60)
    job = await second.read(job)
    assert job["status"] == "submit_unknown"
    assert job["finished_at"] is None
    assert await sent(sandbox, job) == 0
    assert await event_types(database_url, job) == ["pending", "submitting", "submit_unknown"]


async def test_sent_and_not_recorded_it_is_unknown_and_never_sent_again(
    gateway: Gateway, second: Gateway, sandbox: Sandbox, revive: Revive
) -> None:
    job = await gateway.submit()
    [attempt] = await gateway.workers.dispatcher.claim(32)
    await gateway.workers.dispatcher.send(attempt)

    await revive(second)
    for _ in range(3):
        assert await second.dispatch() == 0
        second.wait(60)
    assert (await second.read(job))["status"] == "submit_unknown"
    assert await sent(sandbox, job) == 1


async def test_recorded_and_not_polled_it_is_followed_to_its_end(
    gateway: Gateway, second: Gateway, sandbox: Sandbox, revive: Revive
) -> None:
    job = await gateway.submit()
    assert await gateway.dispatch() == 1
    gateway.wait(2)
    assert await second.poll() == 0, "the first still holds it"

    await revive(second)
    done = await second.follow(job)
    assert done["status"] == "completed"
    assert await sent(sandbox, job) == 1


async def test_polled_and_not_recorded_it_is_polled_again(
    gateway: Gateway, second: Gateway, sandbox: Sandbox, revive: Revive, database_url: str
) -> None:
    job = await gateway.submit("sandbox:instant")
    assert await gateway.dispatch() == 1
    gateway.wait(2)
    [lease] = await gateway.workers.poller.claim(64)
    assert lease.job_id == job["id"]

    await revive(second)
    done = await second.follow(job)
    assert done["status"] == "completed"
    assert await sent(sandbox, job) == 1
    assert await event_types(database_url, job) == [
        "pending",
        "submitting",
        "in_queue",
        "completed",
    ]


async def test_a_cancel_asked_for_before_the_crash_is_carried_out(
    gateway: Gateway, second: Gateway, sandbox: Sandbox, revive: Revive, database_url: str
) -> None:
    job = await gateway.submit("sandbox:stuck-in-queue sandbox:submit-429=1")
    [attempt] = await gateway.workers.dispatcher.claim(32)
    answer = await gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["outcome"]) == (202, "cancel_requested")
    await gateway.workers.dispatcher.dispatch(attempt)

    await revive(second)
    job = await second.follow(job)
    assert job["status"] == "cancelled"
    assert await sent(sandbox, job) == 1, "it came back from its submit and was not sent again"
    assert await event_types(database_url, job) == [
        "pending",
        "submitting",
        "pending",
        "cancelled",
    ]


async def test_a_dead_replicas_work_is_taken_over_within_35_seconds(
    gateway: Gateway, second: Gateway
) -> None:
    jobs = [await gateway.submit("sandbox:instant") for _ in range(5)]
    await gateway.dispatch()
    for _ in range(35):
        gateway.wait(1)
        await second.dispatch()
        await second.poll()
    assert {(await second.read(job))["status"] for job in jobs} == {"completed"}
