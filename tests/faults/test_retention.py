"""What ended long ago is forgotten in small batches; what somebody still needs is not."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from app.core.clock import ManualClock
from app.events.tail import Whose
from tests.support.answers import problem
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.invariants import assert_invariants, read_jobs
from tests.support.receiver import Receiver, receiving, status
from tests.support.rows import look
from tests.support.storages import files_below

pytestmark = pytest.mark.either_database

DAY = 24 * 3600
KEPT = 20 * DAY
PICTURE = "data:image/png;base64," + "iVBORw0KGgoAAAAN" * 400


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as listening:
        yield listening


@pytest.fixture
async def keeping(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        retention_days=KEPT / DAY,
        job_timeout_seconds=60,
        late_watch_seconds=30 * DAY,
        storage_url=f"file://{tmp_path}/kept",
        webhook_networks=["127.0.0.0/8"],
    ) as gateway:
        yield gateway


async def usage(gateway: Gateway) -> list[dict[str, Any]]:
    answer = await gateway.http.get("/v1/usage?group_by=day,model&from=2026-11-01&to=2026-11-30")
    data: list[dict[str, Any]] = answer.json()["data"]
    assert data
    return data


async def listed(gateway: Gateway) -> set[str]:
    return {job["id"] for job in (await gateway.http.get("/v1/jobs?limit=100")).json()["data"]}


async def prune(gateway: Gateway) -> None:
    while await gateway.workers.pruner.run_once():
        pass


async def finished(gateway: Gateway, words: str = "", **extra: Any) -> dict[str, Any]:
    """Return a job that is done, its output copied and its owner told."""
    body = gateway.body(f"sandbox:instant sandbox:output=image {words}") | extra
    job = await gateway.follow((await gateway.http.post("/v1/jobs", json=body)).json())
    assert gateway.workers.archiver is not None
    await gateway.workers.archiver.loop.run_once()
    await gateway.deliver()
    return job


async def all_is_well(gateway: Gateway, database_url: str) -> None:
    assert (await gateway.admin.get("/v1/admin/invariants")).json()["ok"]
    await assert_invariants(database_url)


async def test_what_ended_long_ago_goes_and_what_is_in_use_stays(
    keeping: Gateway, database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    start = keeping.clock.now()

    async def prune_at(seconds: float) -> set[str]:
        keeping.wait(seconds - (keeping.clock.now() - start).total_seconds())
        while await keeping.workers.pruner.run_once():
            pass
        return await listed(keeping)

    receiver.answers(status(204), status(500))
    watched = await keeping.submit("sandbox:stuck")
    told = await finished(keeping, webhook_url=receiver.url)
    untold = await finished(keeping, webhook_url=receiver.url)
    given = await keeping.submit("sandbox:instant", first_frame_image_url=PICTURE)
    uncopied = await keeping.follow(given)
    refused = await keeping.follow(await keeping.submit("sandbox:submit-400001"))
    keeping.wait(61)
    await keeping.poll()
    assert (await keeping.read(watched))["error"]["code"] == "timed_out"
    young = await keeping.follow(await keeping.submit("sandbox:submit-400001"))
    waiting = await keeping.submit()
    kept = {job["id"] for job in (untold, uncopied, watched, young, waiting)}
    untouched = [
        *("SELECT * FROM ledger ORDER BY job_id, kind", "SELECT count(*) FROM audit_log"),
        "SELECT * FROM accounts ORDER BY id",
    ]
    before = [look(database_url, query) for query in untouched], await usage(keeping)
    cursor = await keeping.app.state.parts.services.feed.start(None)

    assert await prune_at(KEPT - 1) == kept | {told["id"], refused["id"]}
    assert await prune_at(KEPT + 50) == kept
    for path in (told["id"], f"{told['id']}/outputs/0"):
        gone = await keeping.http.get(f"/v1/jobs/{path}")
        assert problem(gone)["code"] == "job_not_found"
    for table in ("job_events", "webhook_deliveries", "outputs"):
        rows = look(database_url, f"SELECT job_id FROM {table}")
        assert rows, table
        assert (told["id"],) not in rows, table
    assert ([look(database_url, query) for query in untouched], await usage(keeping)) == before
    await all_is_well(keeping, database_url)

    # What was in use goes once it is not: copied, told, no longer watched.
    assert len(files_below(tmp_path / "kept")) == 1, "the picture of the job that is not copied"
    assert keeping.workers.archiver is not None
    await keeping.workers.archiver.loop.run_once()
    receiver.answers(status(204))
    await keeping.deliver()
    assert await prune_at(KEPT + 100) == {watched["id"], waiting["id"]}
    assert files_below(tmp_path / "kept") == []
    keeping.wait(11 * DAY)
    await keeping.poll()
    assert await prune_at(31 * DAY) == {waiting["id"]}
    await all_is_well(keeping, database_url)

    await keeping.dispatch()
    feed = keeping.app.state.parts.services.feed
    news = await feed.of_caller(Whose("alice"), after=await feed.start(cursor))
    seen = [(moment.job.id, moment.job.state) for _, moment in news.moments]
    assert seen == [(waiting["id"], "in_queue")]


async def test_deliveries_that_ended_go_before_a_job_that_is_still_needed(
    keeping: Gateway, database_url: str, receiver: Receiver
) -> None:
    receiver.answers(status(204))
    body = keeping.body("sandbox:instant sandbox:output=image") | {"webhook_url": receiver.url}
    uncopied = await keeping.follow((await keeping.http.post("/v1/jobs", json=body)).json())
    await keeping.deliver()
    for seconds, left in ((KEPT - 60, 1), (120, 0)):
        keeping.wait(seconds)
        await prune(keeping)
        assert len(look(database_url, "SELECT id FROM webhook_deliveries")) == left
    assert await listed(keeping) == {uncopied["id"]}


async def test_a_copy_that_nobody_makes_any_more_keeps_no_job(
    keeping: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    await keeping.follow(await keeping.submit("sandbox:instant sandbox:output=image"))
    keeping.wait(KEPT)
    await prune(keeping)
    assert len(await listed(keeping)) == 1, "its copy is still to be made"
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        retention_days=KEPT / DAY,
        archive_outputs=False,
    ) as without_copies:
        await prune(without_copies)
        assert await listed(without_copies) == set()
    assert look(database_url, "SELECT state FROM outputs") == []
    await all_is_well(keeping, database_url)


@pytest.mark.sqlite_alone  # Postgres does it all elsewhere
async def test_what_is_old_is_deleted_beside_the_event_loop(
    keeping: Gateway, receiver: Receiver
) -> None:
    """For hours, if a retention is shortened: each batch took a fifth of a second of the loop."""
    receiver.answers(status(204))
    await finished(keeping, webhook_url=receiver.url)
    on_the_loop: list[str] = []
    deleted: set[str] = set()

    def note(*executed: Any) -> None:
        verb, _, table, *_ = executed[2].split()
        if verb == "DELETE":
            deleted.add(table)
            if threading.current_thread() is threading.main_thread():
                on_the_loop.append(table)

    for engine in keeping.keys._database.watch():  # noqa: SLF001 - all share one
        event.listen(engine, "before_cursor_execute", note)
    keeping.wait(KEPT + 1)
    retention = keeping.workers.retention
    assert (await retention.prune_deliveries(), await retention.prune_jobs()) == (1, 1)
    assert {"jobs", "webhook_deliveries"} <= deleted
    assert on_the_loop == []


async def test_batches_are_small_and_rivals_share_them(
    keeping: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    for _ in range(7):
        await keeping.submit("sandbox:submit-400001")
    await keeping.dispatch()
    assert all(row.state == "failed" for row, _ in (await read_jobs(database_url)).values())
    retention = keeping.workers.retention
    keeping.wait(KEPT)
    assert await retention.prune_jobs(limit=3) == 3
    assert len(await listed(keeping)) == 4
    async with running(
        database_url, sandbox=sandbox, clock=clock, retention_days=KEPT / DAY
    ) as rival:
        both = await asyncio.gather(
            retention.prune_jobs(limit=2), rival.workers.retention.prune_jobs(limit=2)
        )
    left = len(await listed(keeping))
    assert sum(both) == 4 - left
    assert await retention.prune_jobs() == left
    assert await retention.prune_jobs() == 0
    assert await listed(keeping) == set()


async def test_days_of_shadow_findings_go_some_at_a_time(keeping: Gateway) -> None:
    shadow = {"limit": 0, "mode": "shadow"}
    limits = {"limits": {"jobs_per_day": shadow, "jobs_per_month": shadow, "pending_jobs": shadow}}
    await keeping.admin.patch("/v1/admin/users/alice", json=limits)

    async def days() -> list[str]:
        answer = await keeping.admin.get("/v1/admin/shadow-findings")
        return [found["day"] for found in answer.json()["data"]]

    await keeping.submit()  # at ten o'clock, so that the day is over fourteen hours later
    keeping.wait(DAY)
    await keeping.submit()
    retention = keeping.workers.retention
    keeping.wait(KEPT - DAY + 14 * 3600 - 1)
    assert await retention.prune_findings() == 0
    keeping.wait(1)
    assert [await retention.prune_findings(limit=2) for _ in range(3)] == [2, 1, 0]
    assert await days() == ["2026-11-23"] * 3
    keeping.wait(DAY)
    await prune(keeping)
    assert await days() == []


async def test_a_key_outlives_a_short_retention_and_goes_after_its_day(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with running(database_url, sandbox=sandbox, clock=clock, retention_days=0.001) as gateway:
        body = gateway.body("sandbox:submit-400001")
        key = {"Idempotency-Key": "once"}
        job = (await gateway.http.post("/v1/jobs", json=body, headers=key)).json()
        await gateway.follow(job)
        keyless = await gateway.follow(await gateway.submit("sandbox:submit-400001"))
        live = (
            await gateway.http.post(
                "/v1/jobs", json=gateway.body(), headers={"Idempotency-Key": "live"}
            )
        ).json()
        gateway.wait(DAY - 60)
        await prune(gateway)
        assert await listed(gateway) == {job["id"], live["id"]}, keyless["id"]
        again = await gateway.http.post("/v1/jobs", json=body, headers=key)
        assert (again.status_code, again.json()["id"]) == (200, job["id"])
        gateway.wait(61)
        await prune(gateway)
        assert await listed(gateway) == {live["id"]}
        kept = look(database_url, "SELECT key FROM idempotency_keys ORDER BY key")
        assert kept == [("live",), ("once",)]
        gateway.wait(3600)
        await prune(gateway)
        assert look(database_url, "SELECT key FROM idempotency_keys") == []
        assert await listed(gateway) == {live["id"]}
