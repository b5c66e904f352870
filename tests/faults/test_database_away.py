"""A database that goes away while money is on its way, and a worker that is told to stop then."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, literal, make_url, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from app.core.clock import ManualClock, SystemClock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.core.natural_batch import NaturalBatch
from app.db import schema
from app.db.engine import open_database, opened_database
from app.db.failures import Failures
from app.db.models import JobRow, SwitchRow
from app.db.prepared import made_once
from app.db.statements import table_of
from app.jobs.lanes.accounts import Roster
from app.jobs.models import Change
from app.jobs.operations.health import HealthService
from app.worker.heartbeat import Heartbeat
from tests.support.gateway import Gateway, Sandbox
from tests.support.invariants import event_types
from tests.support.network import running_wire
from tests.support.turns import turns
from tests.support.workbench import Workbench, workbench

PATIENCE_S = 60
SWITCHES = table_of(SwitchRow)

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


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("", "in_queue"),
        ("sandbox:lost-answer", "submit_unknown"),
        ("sandbox:submit-400001", "failed"),
        ("sandbox:submit-429", "pending"),
    ],
)
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
    begun, written, record = asyncio.Event(), asyncio.Event(), bench.queue.record

    async def late(changes: Sequence[Change]) -> Sequence[bool]:
        begun.set()
        await written.wait()
        return [await record(change) for change in changes]

    bench.queue.record = NaturalBatch(late)
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


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("SET LOCAL ROLE pg_monitor", "permission denied for table switches"),
        (
            "DO $$ BEGIN RAISE 'invalid page in block 7' USING ERRCODE = 'data_corrupted'; END $$",
            "invalid page in block 7",
        ),
    ],
)
async def test_a_server_at_fault_is_away_too(
    database_url: str, way: Way, fault: str, reason: str
) -> None:
    """What may have cost money is then written again and again, until somebody has mended it."""
    if database_url.startswith("sqlite"):
        return  # there is no server

    clear = way(delete(SWITCHES))

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(text(fault))
        await tx.execute(clear)

    async with opened_database(database_url) as database:
        with pytest.raises(DatabaseUnavailableError) as failure:
            await database.transact(work)
        assert failure.value.reason == reason


async def test_a_process_frozen_in_a_transaction_loses_its_locks(
    database_url: str, way: Way
) -> None:
    if database_url.startswith("sqlite"):
        return  # one process has it all to itself

    one = way(select(literal(1)))

    async def work(tx: AsyncConnection) -> None:
        name = "idle_in_transaction_session_timeout"
        assert (await tx.execute(text(f"SHOW {name}"))).scalar_one() == "15s"
        await tx.execute(text(f"SET LOCAL {name} = '20ms'"))
        await SystemClock().sleep(timedelta(seconds=0.5))
        await tx.execute(one)

    async with opened_database(database_url) as database:
        with pytest.raises(DatabaseUnavailableError):
            await database.transact(work)
        answer = await database.read(lambda connection: connection.execute(one))
        assert answer.scalar_one() == 1


@pytest.mark.parametrize("is_answered", [True, False])
async def test_nor_does_it_keep_them_while_answers_are_on_their_way(
    database_url: str, *, is_answered: bool
) -> None:
    if database_url.startswith("sqlite"):
        return  # one process has it all to itself

    name = "idle_in_transaction_session_timeout"
    soon = made_once(select(func.set_config(name, "20ms", literal(value=True))))
    lock = made_once(select(SWITCHES).with_for_update())
    touch = made_once(update(SWITCHES).values(is_on=True))

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(soon)
        await tx.execute(lock if is_answered else touch)
        await SystemClock().sleep(timedelta(seconds=0.5))
        await tx.execute(touch)

    async with opened_database(database_url) as database:
        with pytest.raises(DatabaseUnavailableError):
            await database.transact(work)


async def test_a_server_that_takes_no_writes_is_away_and_left(database_url: str, way: Way) -> None:
    if database_url.startswith("sqlite"):
        return  # a file has no standby

    clear = way(delete(SWITCHES))

    async def write(tx: AsyncConnection) -> int:
        await tx.execute(clear)
        return int((await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one())

    async def write_to_a_standby(tx: AsyncConnection) -> int:
        await tx.execute(text("SET TRANSACTION READ ONLY"))
        return await write(tx)

    async with opened_database(database_url) as database:
        before = await database.transact(write)
        with pytest.raises(DatabaseUnavailableError):
            await database.transact(write_to_a_standby)
        assert await database.transact(write) != before


async def test_a_server_that_says_nothing_is_away(database_url: str, way: Way) -> None:
    if database_url.startswith("sqlite"):
        return  # there is no server

    sleep = way(select(func.pg_sleep(60)))

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(sleep)

    database = open_database(database_url, answers_within=timedelta(seconds=0.1))
    try:
        with pytest.raises(DatabaseUnavailableError) as failure:
            await database.transact(work)
        assert failure.value.detail.endswith("; nothing was accepted. Try again shortly.")
        with pytest.raises(DatabaseUnavailableError):
            await database.read(work)
    finally:
        await database.close()


async def test_what_has_many_rows_to_go_through_is_given_its_time(
    database_url: str, way: Way
) -> None:
    if database_url.startswith("sqlite"):
        return  # there is no server

    sleep = way(select(func.pg_sleep(1)))

    async def work(tx: AsyncConnection) -> int:
        await tx.execute(sleep)
        return 1

    database = open_database(database_url, answers_within=timedelta(seconds=0.5))
    try:
        for use in (database.transact, database.search):
            assert await use(work, is_long=True) == 1
            with pytest.raises(DatabaseUnavailableError):
                await use(work)
    finally:
        await database.close()


async def test_a_server_that_is_frozen_is_given_up_and_not_asked_to_stop(
    database_url: str, way: Way
) -> None:
    if database_url.startswith("sqlite"):
        return  # there is no server

    one = way(select(literal(1)))
    folder = make_url(database_url).query["host"]
    assert isinstance(folder, str)
    with running_wire(Path(folder) / ".s.PGSQL.5432") as wire:
        through = make_url(database_url).set(host="127.0.0.1", port=wire.port, query={})
        database = open_database(
            through.render_as_string(hide_password=False), answers_within=timedelta(seconds=4)
        )
        ways = (database.transact, database.read, database.look_up)
        for use in ways:
            await use(lambda connection: connection.execute(one))
        wire.freeze()
        try:
            async with asyncio.timeout(12):  # the driver would ask for ten seconds more
                waiting = [
                    asyncio.ensure_future(use(lambda connection: connection.execute(one)))
                    for use in ways
                ]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                assert [each.done() for each in waiting] == [False, False, True]
                await asyncio.wait(waiting)
        finally:
            await database.close()
        assert {type(each.exception()) for each in waiting} == {DatabaseUnavailableError}


async def test_a_silent_host_is_passed_over_for_the_next(database_url: str, way: Way) -> None:
    """As one is that is cut off, whose standby has taken over."""
    if database_url.startswith("sqlite"):
        return  # there is no host

    one = way(select(literal(1)))
    folder = make_url(database_url).query["host"]
    assert isinstance(folder, str)
    far = Path(folder) / ".s.PGSQL.5432"
    with running_wire(far) as silent, running_wire(far) as heard:
        silent.freeze()
        hosts = {"host": [f"127.0.0.1:{each.port}" for each in (silent, heard)]}
        several = make_url(database_url).set(query=hosts).render_as_string(hide_password=False)
        async with opened_database(several) as database:
            answer = await database.look_up(lambda connection: connection.execute(one))
            assert answer.scalar_one() == 1
            async with asyncio.timeout(60):
                assert (await asyncio.to_thread(schema.read, several)).revision is not None


@pytest.mark.parametrize(
    ("at_commit", "is_sure"),
    [
        ("PERFORM pg_sleep(60)", False),
        ("PERFORM pg_terminate_backend(pg_backend_pid())", False),
        ("RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'", True),
    ],
)
async def test_only_a_commit_without_an_answer_leaves_open_what_was_accepted(
    database_url: str, way: Way, at_commit: str, *, is_sure: bool
) -> None:
    if database_url.startswith("sqlite"):
        return  # there is no server

    add = way(insert(SWITCHES).values(name="a", is_on=True))

    async def prepare(tx: AsyncConnection) -> None:
        body = f"$$ BEGIN {at_commit}; RETURN NULL; END $$"
        await tx.execute(
            text(f"CREATE FUNCTION falter() RETURNS trigger LANGUAGE plpgsql AS {body}")
        )
        await tx.execute(
            text(
                "CREATE CONSTRAINT TRIGGER falters AFTER INSERT ON switches"
                " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION falter()"
            )
        )

    async def write(tx: AsyncConnection) -> None:
        tries.append(1)
        await tx.execute(add)

    async def work(_: Sequence[None]) -> Sequence[None]:
        await database.transact(write)
        return [None]

    tries: list[int] = []
    setting_up = open_database(database_url)
    database = open_database(database_url, answers_within=timedelta(seconds=1))
    try:
        await setting_up.transact(prepare)
        with pytest.raises(DatabaseUnavailableError) as failure:
            await NaturalBatch(work)(None)
        assert failure.value.detail == "The gateway's database does not answer; " + (
            "nothing was accepted. Try again shortly."
            if is_sure
            else "the request may have been accepted. Send it again, a submit under its"
            " Idempotency-Key."
        )
        assert len(tries) == 1, "what may have been done is not done again"
    finally:
        await setting_up.close()
        await database.close()


async def test_who_meets_a_connection_that_the_server_has_ended_takes_another(
    database_url: str, way: Way
) -> None:
    if database_url.startswith("sqlite"):
        return  # there is no server

    one_more = way(insert(SWITCHES).values(name="a", is_on=True))
    counting = way(select(func.count()).select_from(SWITCHES))
    clear = way(delete(SWITCHES))
    sleep = way(select(func.pg_sleep(0.2)))

    async def end_others(tx: AsyncConnection) -> None:
        await tx.execute(
            text(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
        )

    async def add(tx: AsyncConnection) -> None:
        await tx.execute(one_more)

    async def clear_all(tx: AsyncConnection) -> None:
        await tx.execute(clear)

    async def count(connection: AsyncConnection) -> int:
        return int((await connection.execute(counting)).scalar_one())

    async def add_and_lose_the_connection(tx: AsyncConnection) -> None:
        await add(tx)
        if not tries:
            tries.append(1)
            await other.transact(end_others)
        assert await count(tx) == 1

    async def be_ended_at_work(tx: AsyncConnection) -> None:
        if len(tries) == 1:
            tries.append(2)
            ending.append(asyncio.ensure_future(other.transact(end_others)))
        await tx.execute(sleep)

    tries: list[int] = []
    ending: list[asyncio.Future[None]] = []
    database, other = open_database(database_url), open_database(database_url)
    try:
        assert await database.read(count) == 0
        await other.transact(end_others)
        assert await database.read(count) == 0
        await database.transact(add_and_lose_the_connection)
        assert (await database.read(count), len(tries)) == (1, 1)
        await other.transact(end_others)
        await database.transact(clear_all)
        assert await database.read(count) == 0
        await database.transact(be_ended_at_work)
        await asyncio.gather(*ending)
    finally:
        await database.close()
        await other.close()
