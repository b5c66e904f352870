"""Replicas whose clocks differ by seconds: nothing is sent twice, ended early or counted twice."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.core.clock import ManualClock
from app.core.timestamps import rfc3339
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.invariants import assert_invariants, event_types

pytestmark = pytest.mark.either_database

SKEWS_S = (5, -5)


@pytest.fixture(params=SKEWS_S, ids=["ahead", "behind"])
async def rival(
    request: pytest.FixtureRequest, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[Gateway]:
    """Open a second replica, whose clock goes as fast as ours and shows another time."""
    skewed = ManualClock(clock.now() + timedelta(seconds=request.param))
    async with running(database_url, sandbox=sandbox, clock=skewed) as running_one:
        yield running_one


def wait(gateway: Gateway, rival: Gateway, seconds: float) -> None:
    gateway.wait(seconds)
    rival.wait(seconds)


async def test_whoever_works_each_job_is_sent_once_and_ends(
    gateway: Gateway, rival: Gateway, sandbox: Sandbox, database_url: str
) -> None:
    words = ["", "sandbox:fail", "sandbox:slow=10", "sandbox:submit-429=1", "sandbox:poll-504=2"]
    jobs: list[dict[str, Any]] = []
    for turn in range(25):
        if turn < len(words):
            jobs.append(await (gateway, rival)[turn % 2].submit(words[turn]))
        for one in (gateway, rival):
            await one.dispatch()
            await one.poll()
        wait(gateway, rival, 3)
    done = [await rival.read(job) for job in jobs]
    assert [job["status"] for job in done] == ["completed", "failed", *["completed"] * 3]
    for job in done:
        accepted = [seen["accepted"] for seen in await sandbox.submits(job)]
        assert accepted.count(True) == 1
        assert (await event_types(database_url, job))[-1] == job["status"]
    await assert_invariants(database_url)
    assert (await rival.admin.get("/v1/admin/invariants")).json()["ok"]


async def test_a_submit_under_way_is_left_to_who_holds_it(
    gateway: Gateway, rival: Gateway, sandbox: Sandbox, database_url: str
) -> None:
    """Up to the time-out of a submit, however early the other's clock sees the lease end."""
    job = await gateway.submit()
    [attempt] = await gateway.workers.dispatcher.claim(32)
    request_id = await gateway.workers.dispatcher.send(attempt)
    wait(gateway, rival, 20)
    await rival.dispatch()
    assert (await event_types(database_url, job))[-1] == "submitting"
    await gateway.workers.dispatcher.follow(attempt.lease, request_id)
    assert (await rival.read(job))["status"] == "in_queue"
    done = await gateway.follow(job)
    assert (done["status"], len(await sandbox.submits(job))) == ("completed", 1)
    await assert_invariants(database_url)


async def test_who_is_behind_polls_its_own_jobs_while_the_other_polls(
    gateway: Gateway, rival: Gateway
) -> None:
    """The polls of all replicas are counted together, by whatever clock each of them has."""
    replicas = (gateway, rival)
    for turn in range(20):
        await replicas[turn % 2].submit(f"{turn} sandbox:slow=600")
        assert await replicas[turn % 2].dispatch() == 1
    polls = [0, 0]
    for _ in range(20):
        wait(gateway, rival, 1)
        for number, replica in enumerate(replicas):
            polls[number] += await replica.poll()
    assert min(polls) > max(polls) / 2


async def test_a_clock_that_was_hours_ahead_stops_nobody_once_it_is_right(
    gateway: Gateway, sandbox: Sandbox, database_url: str
) -> None:
    """Its poll and its submit were counted against rates that all share, hours from now."""
    await gateway.admin.post(
        "/v1/admin/plans",
        json={"name": "all", "default": True, "limits": {"submits_per_minute": {"limit": 60}}},
    )
    wrong = ManualClock(gateway.clock.now() + timedelta(hours=8))
    async with running(database_url, sandbox=sandbox, clock=wrong) as ahead:
        await ahead.submit()
        assert (await ahead.dispatch(), await ahead.poll()) == (1, 0)
        ahead.wait(2)
        assert await ahead.poll() == 1
    (rate,) = (await gateway.http.get("/v1/me")).json()["limits"]
    assert (rate["used"], rate["resets_at"]) == (0, rfc3339(gateway.clock.now()))
    job = await gateway.submit("sandbox:instant")
    assert (await gateway.follow(job, seconds=30))["status"] == "completed"
    await assert_invariants(database_url)
