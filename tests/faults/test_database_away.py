"""A database that goes away while money is on its way, and a worker that is told to stop then."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.core.natural_batch import NaturalBatch
from app.db.engine import open_database
from app.db.failures import Failures
from app.db.models import JobRow, SwitchRow
from app.db.prepared import made_once
from app.db.statements import table_of
from app.jobs.lanes.accounts import Roster
from app.jobs.models import Change
from app.jobs.operations.health import HealthService
from app.jobs.service import JobService
from app.jobs.timing.forecast import Forecast
from app.jobs.timing.schedule import ScheduleConfig
from app.storage.discards import Sweeper
from app.storage.rows import RowStorage
from app.worker.heartbeat import Heartbeat
from tests.support.gateway import Gateway, Sandbox
from tests.support.invariants import assert_invariants, event_types
from tests.support.turns import turns
from tests.support.workbench import Workbench, workbench

PATIENCE_S = 60
SWITCHES = table_of(SwitchRow)
OUTCOMES = pytest.mark.parametrize(
    ("words", "state"),
    [
        ("", "in_queue"),
        ("sandbox:lost-answer", "submit_unknown"),
        ("sandbox:submit-400001", "failed"),
        ("sandbox:submit-429", "pending"),
    ],
)

Way = Callable[[Any], Any]


@pytest.fixture(params=["sqlalchemy", "driver"])
def way(request: pytest.FixtureRequest) -> Way:
    """Make a statement one that SQLAlchemy sends, or that is made once and the driver sends."""
    return made_once if request.param == "driver" else lambda statement: statement


@pytest.fixture
async def bench(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[Workbench]:
    async with workbench(database_url, upstream_url=sandbox.url, clock=clock, grace=0.05) as made:
        yield made


async def rename_lease(bench: Workbench, token: Any) -> None:
    async def work(tx: AsyncConnection) -> None:
        await tx.execute(update(JobRow).values(lease_token=token))

    await bench.database.transact(work)


async def until_refused(gateway: Gateway, bench: Workbench, times: int) -> None:
    """Let time go by, once the first refusal shows that the answer is there."""
    async with asyncio.timeout(PATIENCE_S):
        while bench.database.refused < times:
            await turn(gateway, seconds=0.1 if bench.database.refused else 0)


async def until_done(gateway: Gateway, task: asyncio.Future[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not task.done():
            await turn(gateway, seconds=0.1)
    await task


async def turn(gateway: Gateway, *, seconds: float) -> None:
    await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
    gateway.wait(seconds)


@OUTCOMES
async def test_an_outcome_waits_until_the_database_is_back(
    gateway: Gateway, bench: Workbench, sandbox: Sandbox, words: str, state: str
) -> None:
    job = await gateway.submit(words)
    [attempt] = await bench.dispatcher.claim(32)
    bench.database.away = True
    dispatching = asyncio.ensure_future(bench.dispatcher.dispatch(attempt))
    await until_refused(gateway, bench, 3)
    bench.database.away = False
    await until_done(gateway, dispatching)
    assert (await gateway.read(job))["status"] == state
    assert len(await sandbox.submits(job)) == 1


@OUTCOMES
async def test_an_outcome_counts_though_the_job_was_given_up_before_the_database_was_back(
    gateway: Gateway, bench: Workbench, sandbox: Sandbox, database_url: str, words: str, state: str
) -> None:
    """What is certain, if late, spares an operator a decision and the user a charge."""
    job = await gateway.submit(words)
    [attempt] = await bench.dispatcher.claim(32)
    bench.database.away = True
    dispatching = asyncio.ensure_future(bench.dispatcher.dispatch(attempt))
    await until_refused(gateway, bench, 3)
    gateway.wait(31)
    await gateway.dispatch()
    assert (await gateway.read(job))["status"] == "submit_unknown"
    bench.database.away = False
    await until_done(gateway, dispatching)
    assert (await gateway.read(job))["status"] == state
    assert len(await sandbox.submits(job)) == 1
    await assert_invariants(database_url)


async def test_who_waits_for_a_cancel_waits_on_while_the_database_is_away(
    gateway: Gateway, bench: Workbench, clock: ManualClock
) -> None:
    """The request is written by then: to say that nothing was accepted would be wrong."""
    job = await gateway.submit("sandbox:stuck-in-queue")
    await gateway.dispatch()
    forecast = Forecast(database=bench.database, clock=clock, config=ScheduleConfig())
    jobs = JobService(
        database=bench.database,
        clock=clock,
        closing=asyncio.Event(),
        forecast=forecast,
        poller=Doorbell(clock=clock),
        deliverer=Doorbell(clock=clock),
        sweeper=Sweeper(database=bench.database, storage=RowStorage(bench.database), clock=clock),
    )
    bench.database.open.clear()
    asked = asyncio.ensure_future(jobs.cancel(job["id"], user_id="alice"))
    async with asyncio.timeout(PATIENCE_S):
        while not bench.database.waiting:
            await turns()
        bench.database.away = True
        bench.database.open.set()
        while not (bench.database.refused or asked.done()):
            await turns()
        bench.database.away = False
        while not asked.done():
            await gateway.poll()
            await turn(gateway, seconds=0.3)
    outcome, ended = asked.result()
    assert (outcome, ended.state.status) == ("cancelled_upstream", "cancelled")


async def test_a_poll_without_a_database_is_asked_again(gateway: Gateway, bench: Workbench) -> None:
    job = await gateway.submit("sandbox:instant")
    await bench.dispatcher.loop.run_once()
    gateway.wait(2)
    [lease] = await bench.poller.claim(64)
    bench.database.away = True
    await bench.poller.loop._handle_logged(lease)  # noqa: SLF001 - as its loop does
    bench.database.away = False
    assert (await gateway.read(job))["status"] == "in_queue"
    gateway.wait(2)
    await bench.poller.loop.run_once()
    assert (await gateway.read(job))["status"] == "completed"


async def test_a_job_is_not_asked_after_while_its_end_is_being_written(
    gateway: Gateway, bench: Workbench
) -> None:
    """Else a database that takes longer than that is told of each end several times at once."""
    job = await gateway.submit("sandbox:instant")
    await bench.dispatcher.loop.run_once()
    gateway.wait(2)
    [lease] = await bench.poller.claim(64)
    begun, written, record = asyncio.Event(), asyncio.Event(), bench.recorder.record

    async def late(changes: Sequence[Change]) -> Sequence[bool]:
        begun.set()
        await written.wait()
        return [await record(change) for change in changes]

    bench.recorder.record = NaturalBatch(late)
    polling = asyncio.ensure_future(bench.poller.poll(lease))
    await begun.wait()
    gateway.wait(10)
    assert await bench.poller.claim(64) == []
    written.set()
    await polling
    assert (await gateway.read(job))["status"] == "completed"


async def test_a_commit_whose_answer_is_lost_orphans_no_request(
    gateway: Gateway, bench: Workbench, database_url: str
) -> None:
    """The row was written; the second write finds it moved, and by itself."""
    job = await gateway.submit()
    [attempt] = await bench.dispatcher.claim(32)
    bench.database.lost_commits = 1
    request_id = await bench.dispatcher.send(attempt)
    following = asyncio.ensure_future(bench.dispatcher.follow(attempt.lease, request_id))
    await until_done(gateway, following)
    assert await event_types(database_url, job) == ["pending", "submitting", "in_queue"]


async def test_a_claim_whose_commit_has_no_answer_is_given_back(
    gateway: Gateway, bench: Workbench, sandbox: Sandbox, database_url: str
) -> None:
    """Who made it knows that nothing was sent; else an operator would have to find that out."""
    job = await gateway.submit()
    bench.database.lost_commits = 1
    with pytest.raises(DatabaseUnavailableError):
        await bench.dispatcher.claim(32)
    # As it is not seen while its commit waits for a standby.
    await rename_lease(bench, func.upper(JobRow.lease_token))
    assert await bench.dispatcher.claim(32) == []
    await rename_lease(bench, func.lower(JobRow.lease_token))
    bench.database.refusals += [True]
    with pytest.raises(DatabaseUnavailableError):
        await bench.dispatcher.claim(32)
    await bench.dispatcher.loop.run_once()
    assert len(await sandbox.submits(job)) == 1
    assert await event_types(database_url, job) == [
        "pending",
        "submitting",
        "pending",
        "submitting",
        "in_queue",
    ]


async def test_a_late_request_id_waits_for_the_database_too(
    gateway: Gateway, bench: Workbench, database_url: str
) -> None:
    job = await gateway.submit()
    [attempt] = await bench.dispatcher.claim(32)
    await bench.dispatcher.dispatch(attempt)
    bench.database.refusals += [False, False, True]  # it is no job's, nobody's, and a note
    following = asyncio.ensure_future(bench.dispatcher.follow(attempt.lease, "another-request"))
    await until_done(gateway, following)
    assert bench.database.refused == 1
    assert (await event_types(database_url, job))[-1] == "late_request_id"


async def test_a_stop_does_not_interrupt_the_writing_of_an_outcome(
    gateway: Gateway, bench: Workbench
) -> None:
    """Neither for who writes nor for who waits to write: their request ids are known."""
    jobs = [await gateway.submit() for _ in range(3)]
    first, *others = await bench.dispatcher.claim(32)
    bench.database.open.clear()
    dispatching = [asyncio.ensure_future(bench.dispatcher.dispatch(first))]
    async with asyncio.timeout(PATIENCE_S):
        while not bench.database.waiting:
            await turn(gateway, seconds=0)
        dispatching += [asyncio.ensure_future(bench.dispatcher.dispatch(each)) for each in others]
        for job in jobs:
            while not await gateway.sandbox.submits(job):
                pass  # the look itself lets the submits go on
        for _ in range(5):
            await gateway.sandbox.http.get("/sandbox/requests")
    for each in dispatching:
        each.cancel()
    await asyncio.sleep(0)  # noqa: TID251
    bench.database.open.set()
    await asyncio.wait(dispatching, timeout=PATIENCE_S)
    assert all(each.cancelled() for each in dispatching)
    assert {(await gateway.read(job))["status"] for job in jobs} == {"in_queue"}


async def test_a_stop_ends_a_submit_without_an_answer_as_unknown(
    gateway: Gateway, bench: Workbench, sandbox: Sandbox
) -> None:
    job = await gateway.submit("sandbox:lost-answer=hang")
    stop = asyncio.Event()
    running = asyncio.ensure_future(bench.dispatcher.loop.run(stop))
    async with asyncio.timeout(PATIENCE_S):
        while not await sandbox.submits(job):
            pass  # the look itself lets the submit go on
        stop.set()
        bench.dispatch_bell.ring()
        await running
    assert (await gateway.read(job))["status"] == "submit_unknown"


async def test_a_stop_without_a_database_still_ends(gateway: Gateway, bench: Workbench) -> None:
    job = await gateway.submit()
    [attempt] = await bench.dispatcher.claim(32)
    bench.database.away = True
    dispatching = asyncio.ensure_future(bench.dispatcher.dispatch(attempt))
    await until_refused(gateway, bench, 1)
    dispatching.cancel()
    await asyncio.wait({dispatching}, timeout=PATIENCE_S)
    assert dispatching.cancelled()
    gateway.wait(31)
    await gateway.dispatch()
    assert (await gateway.read(job))["status"] == "submit_unknown"


async def test_a_worker_without_a_database_is_not_said_to_hang(
    bench: Workbench, clock: ManualClock
) -> None:
    """That the database is away was said when it went; an error would wake somebody each time."""
    health = HealthService(database=bench.database, roster=Roster(), clock=clock)
    loop = bench.dispatcher.loop
    heartbeat = Heartbeat(
        health=health, worker="worker_1", loops=(loop,), doorbell=Doorbell(clock=clock), clock=clock
    )
    bench.database.away = True
    with capture_logs() as logs:
        running = asyncio.ensure_future(loop.run(asyncio.Event()))
        await turns()
        clock.advance(timedelta(seconds=30))
        assert not await heartbeat.run_once()
        running.cancel()
    assert [(line["event"], line["log_level"]) for line in logs] == [("database.away", "warning")]


async def test_the_log_says_why_a_database_is_away(database_url: str, way: Way) -> None:
    """Whoever is woken by it must know whether to look for a disk, a password or a standby."""
    bar, reason = "SET TRANSACTION READ ONLY", "cannot execute DELETE in a read-only transaction"
    if database_url.startswith("sqlite"):
        bar, reason = "PRAGMA query_only=ON", "attempt to write a readonly database"
    clear = way(delete(SWITCHES))

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(text(bar))
        await tx.execute(clear)

    database = open_database(database_url)
    with capture_logs() as logs, Failures("poller").logged():
        await database.transact(work)
    await database.close()
    [away] = [line for line in logs if line["event"] == "database.away"]
    assert (away["who"], away["reason"]) == ("poller", reason)
