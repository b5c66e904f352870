"""What upstream finishes after we stopped waiting is kept, told and charged once."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core.clock import ManualClock
from app.db.models.base import Base
from app.jobs.repository import PARTS
from tests.support.gateway import SEEDANCE, TOKEN, Gateway, Sandbox, running
from tests.support.invariants import assert_invariants, event_types, read_jobs
from tests.support.sse import stream
from tests.support.statements import recorded

pytestmark = pytest.mark.either_database

TIMEOUT = 60


@pytest.fixture
async def hasty(database_url: str, sandbox: Sandbox, clock: ManualClock) -> AsyncIterator[Gateway]:
    """Open a gateway whose jobs may take a minute."""
    async with running(
        database_url, sandbox=sandbox, clock=clock, job_timeout_seconds=TIMEOUT
    ) as running_one:
        yield running_one


async def detail(gateway: Gateway, job: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = (await gateway.admin.get(f"/v1/admin/jobs/{job['id']}")).json()
    return read


async def all_is_well(gateway: Gateway, database_url: str) -> None:
    await assert_invariants(database_url)
    assert (await gateway.admin.get("/v1/admin/invariants")).json() == {
        "ok": True,
        "violations": [],
    }


def entries(read: dict[str, Any]) -> list[str]:
    return [entry["kind"] for entry in read["ledger"]]


@pytest.mark.parametrize("policy", ["charge", "free"])
async def test_a_job_that_succeeds_after_its_time_out_turns_from_failed_to_completed(
    database_url: str, sandbox: Sandbox, clock: ManualClock, policy: str
) -> None:
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        job_timeout_seconds=TIMEOUT,
        late_success=policy,
    ) as gateway:
        job = await gateway.submit("sandbox:queue=10 sandbox:slow=80")
        other = await gateway.submit("sandbox:queue=0 sandbox:slow=59")
        await gateway.dispatch()
        for _ in range(TIMEOUT):
            assert (await gateway.read(job))["status"] in {"in_queue", "in_progress"}
            gateway.wait(1)
            await gateway.poll()
        job = await gateway.read(job)
        assert (job["status"], job["error"]["code"], job["late"]) == ("failed", "timed_out", False)
        assert job["cost"]["state"] == "released"
        assert entries(await detail(gateway, job)) == ["hold", "release"]
        other = await gateway.read(other)
        assert (other["status"], other["late"]) == ("completed", False), "seen by the last look"

        # The place is free, though the job is looked at.
        assert (await gateway.http.get("/v1/me")).status_code == 200
        await gateway.follow(await gateway.submit("sandbox:instant"))

        late = await gateway.follow(job, lambda job: job["status"] != "failed", seconds=90)
        assert (late["status"], late["late"], late["error"]) == ("completed", True, None)
        assert late["output"]["video"] in late["urls"]["outputs"]
        assert late["cost"]["state"] == ("settled" if policy == "charge" else "released")
        charges = ["late_charge"] if policy == "charge" else []
        read = await detail(gateway, job)
        assert entries(read) == ["hold", "release", *charges]
        assert [(event["type"], event["data"]) for event in read["events"][-3:]] == [
            ("in_progress", None),
            ("failed", {"code": "timed_out"}),
            ("completed", {"late": True}),
        ]
        used = (await gateway.http.get("/v1/usage")).json()
        assert used["data"][0]["jobs_settled"] + used["data"][0]["jobs_released"] == 3

        gateway.wait(86_400)
        assert await gateway.poll() == 0
        await all_is_well(gateway, database_url)


async def test_ends_and_late_successes_of_a_round_lock_accounts_once(
    hasty: Gateway, database_url: str
) -> None:
    """Twice, two replicas could each hold what the other wants next, and Postgres ends one."""
    late = await hasty.submit("sandbox:queue=0 sandbox:slow=80")
    await hasty.dispatch()
    hasty.wait(TIMEOUT)
    await hasty.poll()
    assert (await hasty.read(late))["status"] == "failed"
    in_time = await hasty.submit("sandbox:queue=0 sandbox:slow=20")
    await hasty.dispatch()
    hasty.wait(20)
    with recorded(hasty) as transactions:
        await hasty.poll()
    for job in (late, in_time):
        assert (await hasty.read(job))["status"] == "completed"
    (written,) = [each for each in transactions if any("ledger" in one for one in each)]
    assert len([one for one in written if "FROM accounts" in one.replace("\n", "")]) == 1
    await all_is_well(hasty, database_url)


async def test_a_watch_ends_with_its_time_or_with_upstreams_own_word(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        job_timeout_seconds=TIMEOUT,
        late_watch_seconds=3600,
    ) as gateway:
        stuck = await gateway.submit("sandbox:stuck")
        fails = await gateway.submit("sandbox:queue=1 sandbox:slow=100 sandbox:fail")
        forgotten = await gateway.submit("sandbox:stuck sandbox:poll-404001=1000")
        called_off = await gateway.submit("sandbox:stuck-in-queue")
        await gateway.dispatch()
        row, _ = (await read_jobs(database_url))[called_off["id"]]
        await sandbox.http.post(
            f"/v1/requests/{row.upstream_request_id}/cancel",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        gateway.wait(TIMEOUT)
        await gateway.poll()
        polled = 0
        for _ in range(3600 // 5):
            gateway.wait(5)
            polled += await gateway.poll()
        assert polled < 120, "sparsely"
        rows = await read_jobs(database_url)
        for job in (stuck, fails, forgotten):
            row, events = rows[job["id"]]
            assert (row.state, row.due_at, row.watch_until) == ("failed", None, None)
            assert [event.type for event in events].count("failed") == 1
            assert (await gateway.read(job))["error"]["code"] == "timed_out"
        row, _ = rows[called_off["id"]]
        assert (row.state, row.due_at, row.watch_until) == ("cancelled", None, None)
        await all_is_well(gateway, database_url)


async def test_a_job_that_nobody_can_look_at_times_out_all_the_same(
    hasty: Gateway, database_url: str
) -> None:
    """No poller is at work, and a dispatcher ends it, unseen for a lease and past its time."""
    job = await hasty.submit("sandbox:queue=10 sandbox:slow=80")
    await hasty.dispatch()
    hasty.wait(2)
    await hasty.poll()
    for _ in range(TIMEOUT - 3):
        hasty.wait(1)
        await hasty.dispatch()
    waiting = await hasty.read(job)
    assert waiting["status"] == "in_queue"
    assert waiting["queue_position"] is not None
    hasty.wait(1)
    await hasty.dispatch()
    failed = await hasty.read(job)
    assert (failed["error"]["code"], failed["queue_position"]) == ("timed_out", None)
    late = await hasty.follow(job, lambda job: job["status"] != "failed", seconds=90)
    assert (late["status"], late["late"]) == ("completed", True)
    await all_is_well(hasty, database_url)


async def test_what_ended_while_no_gateway_ran_is_looked_at_before_it_times_out(
    hasty: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    """The dispatcher may come round first, and ends it no sooner than a poller could look."""
    job = await hasty.submit("sandbox:queue=0 sandbox:slow=10")
    await hasty.dispatch()
    hasty.wait(10 * TIMEOUT)
    async with running(
        database_url, sandbox=sandbox, clock=clock, job_timeout_seconds=TIMEOUT
    ) as restarted:
        await restarted.dispatch()
        await restarted.poll()
    ended = await hasty.read(job)
    assert (ended["status"], ended["late"], ended["error"]) == ("completed", False, None)
    assert entries(await detail(hasty, job)) == ["hold", "settle"]
    await all_is_well(hasty, database_url)


async def test_who_stood_still_looks_at_a_job_before_it_times_out(
    hasty: Gateway, database_url: str
) -> None:
    """A process that was frozen, or had no database: no poller of it could look meanwhile."""
    job = await hasty.submit("sandbox:queue=0 sandbox:slow=10")
    await hasty.dispatch()
    hasty.wait(10 * TIMEOUT)
    await hasty.dispatch()
    await hasty.poll()
    ended = await hasty.read(job)
    assert (ended["status"], ended["late"], ended["error"]) == ("completed", False, None)
    await all_is_well(hasty, database_url)


async def test_what_was_cancelled_and_finished_is_completed_late(
    gateway: Gateway, database_url: str
) -> None:
    job = await gateway.submit("sandbox:queue=20 sandbox:slow=20 sandbox:cancel-undone=45")
    await gateway.dispatch()
    row, _ = (await read_jobs(database_url))[job["id"]]
    await gateway.sandbox.http.post(
        f"/v1/requests/{row.upstream_request_id}/cancel",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    gateway.wait(2)
    await gateway.poll()
    cancelled = await gateway.read(job)
    assert (cancelled["status"], cancelled["late"]) == ("cancelled", False)
    late = await gateway.follow(job, lambda job: job["status"] != "cancelled", seconds=90)
    assert (late["status"], late["late"], late["cost"]["state"]) == ("completed", True, "settled")
    (hour,) = (await gateway.admin.get("/v1/admin/overview?hours=1")).json()["hours"]
    assert hour["detection_seconds"] is None, "its end was seen, and then came another"
    read = await detail(gateway, job)
    assert entries(read) == ["hold", "release", "late_charge"]
    assert read["ledger"][-1]["at"] == late["finished_at"]
    await all_is_well(gateway, database_url)


async def test_an_end_that_was_not_the_last_is_replayed_as_it_was(hasty: Gateway) -> None:
    job = await hasty.submit("sandbox:queue=10 sandbox:slow=80")
    failed = await hasty.follow(job)
    completed = await hasty.follow(job, lambda job: job["late"])
    async with stream(hasty.http, f"/v1/jobs/{job['id']}/events", after="0") as events:
        *_, first, last = await events.rest()
    assert (first.event, last.event) == ("job.failed", "job.completed")
    assert failed["started_at"] is not None
    # What was wrong then is forgotten once there is an output.
    assert first.data == failed | {"error": None}
    assert last.data == completed


@pytest.mark.parametrize("policy", ["settle", "release"])
async def test_a_request_id_that_comes_after_the_hours_is_watched(
    database_url: str, sandbox: Sandbox, clock: ManualClock, policy: str
) -> None:
    """A hold that was settled has paid already; a released one is charged late."""
    async with running(
        database_url, sandbox=sandbox, clock=clock, submit_unknown_policy=policy
    ) as gateway:
        job = await gateway.submit("sandbox:instant")
        [attempt] = await gateway.workers.dispatcher.claim(32)
        request_id = await gateway.workers.dispatcher.send(attempt)
        for hours in (1, 24):
            gateway.wait(hours * 3600)
            await gateway.dispatch()
        failed = await gateway.read(job)
        assert failed["error"]["code"] == "submit_unknown"
        for _ in range(2):
            await gateway.workers.dispatcher.follow(attempt.lease, request_id)
        assert await gateway.read(job) == failed, "a note changes nothing that is shown"
        await gateway.poll()
        late = await gateway.read(job)
        assert (late["status"], late["late"]) == ("completed", True)
        charges = ["late_charge"] if policy == "release" else []
        assert entries(await detail(gateway, job)) == ["hold", policy, *charges]
        types = await event_types(database_url, job)
        assert types[-3:] == ["failed", "late_request_id", "completed"]
        await all_is_well(gateway, database_url)


async def test_an_operators_end_of_a_job_that_runs_on_is_no_end_of_its_truth(
    gateway: Gateway, database_url: str
) -> None:
    job = await gateway.submit("sandbox:queue=0 sandbox:slow=30")
    await gateway.dispatch()
    await gateway.poll()
    await gateway.admin.post(f"/v1/admin/jobs/{job['id']}/settle")
    late = await gateway.follow(job, lambda job: job["status"] != "failed", seconds=60)
    assert (late["status"], late["late"], late["cost"]["state"]) == ("completed", True, "settled")
    assert entries(await detail(gateway, job)) == ["hold", "settle"]
    await all_is_well(gateway, database_url)


async def test_a_late_charge_counts_in_the_window_it_is_made_in(
    hasty: Gateway, database_url: str
) -> None:
    await hasty.admin.post(
        "/v1/admin/plans",
        json={"name": "two", "default": True, "limits": {"jobs_per_day": {"limit": 2}}},
    )
    job = await hasty.submit("sandbox:queue=0 sandbox:slow=80000")
    await hasty.dispatch()
    hasty.wait(TIMEOUT)
    await hasty.poll()
    hasty.wait(80_000)  # from ten in the morning to the next day
    await hasty.follow(job, lambda job: job["late"])
    [limit] = (await hasty.http.get("/v1/me")).json()["limits"]
    assert (limit["used"], limit["held"], limit["remaining"]) == (1, 0, 1)
    await hasty.submit()
    refused = await hasty.http.post("/v1/jobs", json=hasty.body())
    assert refused.json()["code"] == "quota_exceeded"
    await all_is_well(hasty, database_url)


async def test_an_erased_job_is_seen_by_nobody_and_charged_when_it_succeeds_late(
    hasty: Gateway, database_url: str
) -> None:
    line = {"model": SEEDANCE, "base_price_usd": "0.10", "price_unit": "second"}
    await hasty.admin.put("/v1/admin/prices", json={"prices": [line]})
    hasty.wait(2)
    job = await hasty.submit("sandbox:queue=10 sandbox:slow=80 a secret", duration=5)
    await hasty.dispatch()
    hasty.wait(TIMEOUT)
    await hasty.poll()
    assert (await hasty.read(job))["status"] == "failed"
    assert (await hasty.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204

    for answer in (
        await hasty.http.get(f"/v1/jobs/{job['id']}"),
        await hasty.http.delete(f"/v1/jobs/{job['id']}"),
        await hasty.http.get(f"/v1/jobs/{job['id']}/events"),
        await hasty.http.post(f"/v1/jobs/{job['id']}/cancel"),
        await hasty.admin.get(f"/v1/admin/jobs/{job['id']}"),
    ):
        assert answer.status_code == 404, answer.text
    for listed in (
        await hasty.http.get("/v1/jobs"),
        await hasty.admin.get("/v1/admin/jobs"),
    ):
        assert listed.json()["data"] == []
    row, events = (await read_jobs(database_url))[job["id"]]
    assert (row.input, events) == ({}, [])
    assert (await hasty.admin.get("/v1/admin/invariants")).json()["violations"] == []

    await hasty.workers.pruner.run_once()
    for _ in range(60):
        hasty.wait(2)
        await hasty.poll()
    assert (await hasty.admin.get("/v1/admin/invariants")).json()["violations"] == []
    assert (await hasty.http.get("/v1/usage")).json()["data"][0]["spend_usd"] == "0.50"
    row, events = (await read_jobs(database_url))[job["id"]]
    assert (row.state, events) == ("completed", [])
    assert (await hasty.http.get(f"/v1/jobs/{job['id']}")).status_code == 404
    await hasty.workers.pruner.run_once()
    assert job["id"] not in await read_jobs(database_url)
    await all_is_well(hasty, database_url)


def test_all_that_hangs_on_a_job_goes_when_it_is_emptied() -> None:
    hanging = {
        table.name
        for table in Base.metadata.tables.values()
        if any(key.column.table.name == "jobs" for key in table.foreign_keys)
    }
    assert {row.__tablename__ for row in PARTS} == hanging
