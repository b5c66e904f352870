"""How the databases look for work: along an index, however many jobs are due or wait."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import ManualClock
from app.db.engine import open_database
from app.db.models import JobRow
from app.jobs.lanes.accounts import count_unfinished
from app.jobs.models import Job
from app.jobs.queue.config import QueueConfig
from app.jobs.queue.repository import QueueRepository
from app.jobs.queue.sweeps import Sweeps
from app.jobs.retention import is_disposable
from app.jobs.state import FOLLOWED, WATCHED, JobState
from app.jobs.waiting.positions import with_places
from app.jobs.waiting.repository import LineRepository
from app.quotas.policy import LimitName
from app.quotas.repository import QuotaRepository
from app.storage import copies
from app.webhooks.queue_repository import DeliveryQueueRepository


async def plan_of(
    database_url: str,
    ask: Callable[[AsyncConnection], Awaitable[object]],
    *,
    avoiding: Sequence[str] = ("seqscan", "bitmapscan", "mergejoin"),
) -> str:
    """Tell how the last statement of `ask` is carried out."""
    database = open_database(database_url)
    asked: list[tuple[str, Any]] = []
    for engine in database.watch():
        event.listen(engine, "before_cursor_execute", lambda *of: asked.append((of[2], of[3])))

    async def work(connection: AsyncConnection) -> str:
        is_sqlite = connection.dialect.name == "sqlite"
        if not is_sqlite:  # its plans follow the number of rows, of which there are none
            for way in avoiding:
                await connection.execute(text(f"SET LOCAL enable_{way} = off"))
        await ask(connection)
        verb = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
        statement, parameters = asked[-1]
        return str((await connection.exec_driver_sql(verb + statement, parameters)).all())

    plan = await database.transact(work)
    await database.close()
    return plan


async def test_a_claim_reads_no_more_jobs_than_it_may_take(
    database_url: str, clock: ManualClock
) -> None:
    """The first of each state along an index, and those then by their ids."""
    at = clock.now()
    plan = await plan_of(
        database_url,
        lambda tx: QueueRepository(tx).due_polls(
            poller="worker_1", accounts=["default"], at=at, expires_at=at, limit=5
        ),
    )
    assert plan.count("ix_jobs_state_due_at") == len(FOLLOWED | WATCHED), plan
    assert "pk_jobs" in plan or "sqlite_autoindex_jobs_1" in plan, plan


async def test_a_users_line_is_read_from_its_head(database_url: str, clock: ManualClock) -> None:
    """However many jobs of others are due, and without putting one's own in order first."""
    at = clock.now()
    plan = await plan_of(
        database_url,
        lambda tx: LineRepository(tx)._lines(["alice"], without=[], at=at, most=5),  # noqa: SLF001
    )
    assert "ix_jobs_state_user_id_priority_id_key_id" in plan, plan
    assert "ORDER BY" not in plan, plan
    assert "Sort" not in plan, plan


async def test_a_start_finds_jobs_by_their_ids(database_url: str, clock: ManualClock) -> None:
    """However many others wait beside them."""
    at = clock.now()
    plan = await plan_of(
        database_url,
        lambda tx: QueueRepository(tx).start_submits(
            ["job_1"], account="default", token="t", at=at, expires_at=at, covered_until=0
        ),
    )
    assert "pk_jobs" in plan or "sqlite_autoindex_jobs_1" in plan, plan


async def test_what_is_called_off_is_found_without_going_through_all_that_wait(
    database_url: str, clock: ManualClock
) -> None:
    at = clock.now()
    since = Sweeps(QueueConfig()).since(at=at, awake_since=at)
    here = await plan_of(database_url, lambda tx: QueueRepository(tx).look_for_work(since))
    upstream = await plan_of(
        database_url, lambda tx: QueueRepository(tx).call_off_late_starters(at=at)
    )
    idle = await plan_of(
        database_url,
        lambda tx: QueueRepository(tx).has_due_polls(
            poller="worker_1", at=at - timedelta(seconds=1), accounts=["default"]
        ),
    )
    assert "ix_jobs_state_cancel_requested_at" in here, here
    for plan in (here, upstream, idle):
        assert "ix_jobs_state_start_deadline_at" in plan, plan


async def test_who_has_how_many_jobs_is_counted_in_an_index(
    database_url: str, clock: ManualClock
) -> None:
    """However many jobs there are: their rows are looked at for unknown outcomes alone."""
    at = clock.now()
    in_flight = await plan_of(
        database_url, lambda tx: LineRepository(tx).count_in_flight(unknown_since=at)
    )
    pending = await plan_of(
        database_url,
        lambda tx: QuotaRepository(tx).count_jobs(
            [LimitName.PENDING_JOBS], user_ids=["alice"], key_ids=[], unknown_since=at
        ),
    )
    of_keys = await plan_of(
        database_url,
        lambda tx: QuotaRepository(tx).count_jobs(
            [LimitName.PENDING_JOBS], user_ids=[], key_ids=["key_1", "key_2"], unknown_since=at
        ),
    )
    for plan in (in_flight, pending):
        assert "ix_jobs_state_user_id_priority_id_key_id" in plan, plan
    if database_url.startswith("sqlite"):
        for plan in (in_flight, pending, of_keys):
            assert "COVERING INDEX ix_jobs_state_user_id" in plan, plan
        assert "CORRELATED" not in of_keys, "one walk for all keys, for which there is no index"


async def test_what_accounts_still_have_to_follow_is_counted_without_the_jobs_of_before(
    database_url: str,
) -> None:
    """However many there are: at each start, and for each console that is open."""
    plan = await plan_of(database_url, count_unfinished, avoiding=["seqscan"])
    assert plan.count("ix_jobs_state_") == 2, plan  # an empty table may make Postgres take another


@pytest.mark.sqlite_alone  # elsewhere other replicas may hold leases, and they end by themselves
async def test_a_start_frees_leases_without_going_through_all_that_ended(
    database_url: str, clock: ManualClock
) -> None:
    """Nobody is served before: it took seconds with two million jobs, on a slow disk a minute."""
    at = clock.now()
    for free in (
        lambda tx: QueueRepository(tx).free_leases(at=at),
        lambda tx: copies.free_leases(tx, at=at),
        lambda tx: DeliveryQueueRepository(tx).free_leases(at=at),
    ):
        plan = await plan_of(database_url, free)
        assert "due_at" in plan, plan
        assert "SCAN" not in plan, plan


async def test_places_are_counted_in_an_index(database_url: str, clock: ManualClock) -> None:
    """Who is ahead by ranges of it, and not by comparing a user's jobs one by one."""
    job = Job(
        id="job_1",
        user_id="alice",
        model="m",
        schema_hash="",
        input={},
        metadata={},
        output_seconds=None,
        input_class="",
        priority=1,
        price_usd=None,
        cost_state="held",
        state=JobState.PENDING,
        event_seq=1,
        queue_position=None,
        output=None,
        error=None,
        cancel_requested_at=None,
        cancel_outcome=None,
        created_at=clock.now(),
        submitted_at=None,
        started_at=None,
        finished_at=None,
    )
    plan = await plan_of(database_url, lambda tx: with_places(tx, [job]))
    assert "ix_jobs_state_user_id_priority_id" in plan, plan
    if database_url.startswith("sqlite"):
        index = "ix_jobs_state_user_id_priority_id_key_id"
        line = f"COVERING INDEX {index} (state=? AND user_id=? AND "
        for what in ("priority<?", "priority=? AND id<?", "(priority,id)>(?,?)"):
            assert f"{line}{what}" in plan, plan


async def test_the_look_for_old_jobs_is_by_their_end(database_url: str, clock: ManualClock) -> None:
    old = is_disposable(before=clock.now(), archives=True, at=clock.now())
    question = select(JobRow.id).where(old).order_by(JobRow.finished_at).limit(1)
    plan = await plan_of(
        database_url, lambda tx: tx.execute(question), avoiding=("seqscan", "sort")
    )
    assert "ix_jobs_finished_at" in plan, plan
