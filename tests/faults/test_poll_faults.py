"""Whatever goes wrong while a job is followed, only upstream's own word ends it."""

from typing import Any

import pytest

from app.core.clock import ManualClock
from app.sandbox.scenarios import FAULTS
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.invariants import assert_invariants, event_types, read_jobs

pytestmark = pytest.mark.either_database

ENDS = {"completed", "failed", "cancelled"}


async def all_followed(gateway: Gateway, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for _ in range(200):
        while await gateway.dispatch():
            pass
        await gateway.poll()
        seen = [await gateway.read(job) for job in jobs]
        if all(job["status"] in ENDS for job in seen):
            return seen
        gateway.wait(2)
    raise AssertionError(f"still under way: {[job for job in seen if job['status'] not in ENDS]}")


@pytest.mark.parametrize("call", ["poll", "result"])
async def test_no_fault_of_a_poll_ends_a_job(
    database_url: str, sandbox: Sandbox, clock: ManualClock, call: str
) -> None:
    words = [f"sandbox:queue=1 sandbox:slow=1 sandbox:{call}-{fault}=1" for fault in FAULTS]
    async with running(database_url, sandbox=sandbox, clock=clock, lease_seconds=3) as gateway:
        jobs = [await gateway.submit(each) for each in words]
        done = await all_followed(gateway, jobs)
        assert {job["status"] for job in done} == {"completed"}
        for job in done:
            assert len(await sandbox.submits(job)) == 1
    await assert_invariants(database_url)


async def test_a_job_whose_polls_fail_for_hours_is_still_followed(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    faults = ("404", "504", "html")
    async with running(
        database_url, sandbox=sandbox, clock=clock, job_timeout_seconds=86_400
    ) as gateway:
        jobs = [await gateway.submit(f"sandbox:instant sandbox:poll-{each}=30") for each in faults]
        await gateway.dispatch()
        for _ in range(24):
            gateway.wait(600)
            await gateway.poll()
        assert {(await gateway.read(job))["status"] for job in jobs} == {"in_queue"}
        assert {job["status"] for job in await all_followed(gateway, jobs)} == {"completed"}


async def test_a_record_that_upstream_has_not_known_for_minutes_is_lost(
    gateway: Gateway, database_url: str
) -> None:
    """Five times and for two minutes; a single look that finds it again begins the count anew."""
    lost = await gateway.submit("sandbox:instant sandbox:poll-404001=1000")
    found = await gateway.submit("sandbox:stuck sandbox:poll-404001=5")
    await gateway.dispatch()
    for second in range(0, 400, 5):
        gateway.wait(5)
        await gateway.poll()
        status = (await gateway.read(lost))["status"]
        assert (status == "failed") == (second > 119) or 119 < second < 150
    lost = await gateway.read(lost)
    assert lost["error"]["code"] == "upstream_lost"
    assert lost["cost"]["state"] == "released"
    assert (await gateway.read(found))["status"] == "in_progress"
    row, _ = (await read_jobs(database_url))[found["id"]]
    assert (row.lost_polls, row.lost_since) == (0, None)
    await assert_invariants(database_url)


async def test_time_without_polls_does_not_make_a_job_unknown(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:stuck sandbox:poll-404001=2")
    await gateway.dispatch()
    for _ in range(3):
        gateway.wait(600)
        assert await gateway.poll() == 1
    assert (await gateway.read(job))["status"] == "in_progress"


async def test_a_result_that_says_nothing_yet_shows_that_the_record_is_there(
    gateway: Gateway,
) -> None:
    job = await gateway.submit(
        "sandbox:instant sandbox:result-404001=4 sandbox:result-word=processing sandbox:expired=400"
    )
    await gateway.dispatch()
    for _ in range(79):
        gateway.wait(5)
        await gateway.poll()
    gateway.wait(20)
    assert await gateway.poll() == 1
    assert (await gateway.read(job))["status"] == "in_queue", "unknown once, not for minutes"


VARIANTS = {
    "sandbox:status-word": "completed",
    "sandbox:status-word=SUCCEEDED": "completed",
    "sandbox:status-word=failed": "completed",  # the result alone tells how it ended
    "sandbox:status-word=failed sandbox:fail": "failed",
    "sandbox:result-word": "completed",
    "sandbox:letters sandbox:result-word=Succeeded": "completed",
    "sandbox:letters=title": "completed",
    "sandbox:queued-word=waiting": "completed",
    "sandbox:running-word": "completed",
    "sandbox:no-position": "completed",
    "sandbox:position-base=0": "completed",
    "sandbox:echo-input": "completed",
    "sandbox:long-id": "completed",
    "sandbox:no-cost": "completed",
    "sandbox:output=list": "completed",
    "sandbox:output=string": "completed",
    "sandbox:output=images": "completed",
    "sandbox:fail": "failed",
    "sandbox:fail=string": "failed",
    "sandbox:fail=list": "failed",
    "sandbox:fail=none": "failed",
    "sandbox:output=none": "failed",
    "sandbox:output=null": "failed",
    "sandbox:output=empty": "failed",
    "sandbox:output=blank": "failed",
}


async def test_each_wording_of_an_end_is_understood(gateway: Gateway, sandbox: Sandbox) -> None:
    jobs = [await gateway.submit(f"sandbox:queue=2 sandbox:slow=2 {words}") for words in VARIANTS]
    done = await all_followed(gateway, jobs)
    assert dict(zip(VARIANTS, (job["status"] for job in done), strict=True)) == VARIANTS
    for words, job in zip(VARIANTS, done, strict=True):
        assert (job["output"] is not None) == (job["status"] == "completed")
        expected = "no_output" if "output=" in words else "failed_upstream"
        if job["status"] == "failed":
            assert job["error"]["code"] == expected
    calls = [await sandbox.submits(job) for job in done]
    assert [len(each) for each in calls] == [1] * len(done)


async def test_the_queue_moves_without_events(gateway: Gateway, database_url: str) -> None:
    job = await gateway.submit("sandbox:queue=40 sandbox:slow=5")
    positions = []
    for _ in range(60):
        await gateway.dispatch()
        await gateway.poll()
        job = await gateway.read(job)
        if job["status"] == "in_queue":
            positions.append(job["queue_position"])
        gateway.wait(1)
    assert {None, 0, 1, 2} <= set(positions)
    assert job["status"] == "completed"
    assert job["queue_position"] is None
    assert await event_types(database_url, job) == [
        "pending",
        "submitting",
        "in_queue",
        "in_progress",
        "completed",
    ]


async def test_a_job_in_progress_never_goes_back_to_the_queue(
    gateway: Gateway, database_url: str
) -> None:
    """A word that nobody knows counts as running, and what is running does not queue again."""
    odd = await gateway.submit("sandbox:queued-word=warming-up sandbox:running-word=in_queue")
    odd = await gateway.follow(odd, lambda job: job["status"] == "in_progress")
    while odd["finished_at"] is None:
        assert odd["status"] == "in_progress"
        gateway.wait(1)
        await gateway.poll()
        odd = await gateway.read(odd)
    assert odd["status"] == "completed"
    assert (await event_types(database_url, odd))[2:] == ["in_queue", "in_progress", "completed"]


async def test_a_poll_waits_as_long_as_it_was_told_to(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:instant sandbox:poll-429=1 sandbox:retry-after=100")
    await gateway.dispatch()
    gateway.wait(2)
    assert await gateway.poll() == 1
    gateway.wait(99)
    assert await gateway.poll() == 0
    gateway.wait(1)
    assert await gateway.poll() == 1
    assert (await gateway.read(job))["status"] == "completed"


async def test_a_poll_that_may_come_back_at_once_comes_back_as_ever(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:instant sandbox:poll-429=1 sandbox:retry-after=0")
    await gateway.dispatch()
    gateway.wait(2)
    assert await gateway.poll() == 1
    assert await gateway.poll() == 0
    gateway.wait(2)
    assert await gateway.poll() == 1
    assert (await gateway.read(job))["status"] == "completed"


async def test_reads_of_clients_cost_upstream_nothing(gateway: Gateway, sandbox: Sandbox) -> None:
    job = await gateway.submit("sandbox:stuck")
    await gateway.dispatch()
    gateway.wait(5)
    await gateway.poll()
    before = (await sandbox.http.get("/sandbox/requests")).json()
    for _ in range(20):
        await gateway.read(job)
        assert (await gateway.http.get("/v1/jobs")).status_code == 200
    assert (await sandbox.http.get("/sandbox/requests")).json() == before
