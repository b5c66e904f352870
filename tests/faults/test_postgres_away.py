"""A server of Postgres that is at fault, silent, frozen or gone: all of it is a database away."""

import asyncio
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, literal, make_url, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import SystemClock
from app.core.errors import DatabaseUnavailableError
from app.core.natural_batch import NaturalBatch
from app.db import schema
from app.db.engine import open_database, opened_database
from app.db.models import SwitchRow
from app.db.notices import Notices
from app.db.prepared import made_once
from app.db.statements import table_of
from tests.support.postgres import restartable_postgres
from tests.support.processes import free_port
from tests.support.wire_server import Line, wire_server
from tests.support.wires import running_wire

SWITCHES = table_of(SwitchRow)

Way = Callable[[Any], Any]


@pytest.fixture
def database_url(postgres_database: str) -> str:
    return postgres_database


@pytest.fixture(params=["sqlalchemy", "driver"])
def way(request: pytest.FixtureRequest) -> Way:
    """Make a statement one that SQLAlchemy sends, or that is made once and the driver sends."""
    return made_once if request.param == "driver" else lambda statement: statement


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Let no garbage be collected: a process at work does that seldom."""
    gc.disable()
    yield
    gc.enable()


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


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("before", "answers_within"),
    [("", 20), ("host=127.0.0.1:1&", 20), ("host=127.0.0.1:1&", 4)],
    ids=["alone", "after_a_refusal", "given_up_sooner"],
)
async def test_a_server_that_never_answers_is_hung_up_on(before: str, answers_within: int) -> None:
    """It would wait for the other end for a minute once it is back, even when told to stop."""
    is_left = asyncio.Event()

    async def say_nothing(line: Line) -> None:
        await line.wait_for_the_other_end()
        is_left.set()

    async with wire_server(say_nothing) as silent:
        hosts = f"{before}host=127.0.0.1:{silent.port}"
        url = f"postgresql://gateway@/gateway?{hosts}&connect_timeout=2"
        database = open_database(url, answers_within=timedelta(seconds=answers_within))
        async with asyncio.timeout(10):
            with pytest.raises(DatabaseUnavailableError):
                await database.look_up(lambda connection: connection.execute(select(1)))
            await is_left.wait()
        await database.close()
        is_left.clear()
        notices = Notices(url, channel="news", clock=SystemClock())
        listening = asyncio.ensure_future(notices.run(is_left.clear))
        async with asyncio.timeout(10):
            await is_left.wait()
        listening.cancel()
        await asyncio.wait({listening})


async def test_the_server_looks_every_few_seconds_whether_a_client_is_still_there() -> None:
    """Of one that was cut off it would else keep connection and locks for two hours."""
    one = select(literal(1))
    port = free_port()
    is_heard = asyncio.Event()
    with restartable_postgres(listen_addresses="127.0.0.1", port=str(port)):
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        notices = Notices(url, channel="news", clock=SystemClock())
        listening = asyncio.ensure_future(notices.run(is_heard.set))
        async with opened_database(url) as database, asyncio.timeout(60):
            await is_heard.wait()
            for use in (database.transact, database.read):
                await use(lambda connection: connection.execute(one))
            while len(looks_in := _looks_in(port)) < 3:  # some wait for an acknowledgement
                await SystemClock().sleep(timedelta(milliseconds=20))
        listening.cancel()
        await asyncio.wait({listening})
    assert max(looks_in) <= 5


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
    database = open_database(database_url, answers_within=timedelta(seconds=4))
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
    one_more = way(insert(SWITCHES).values(name="a", is_on=True))
    counting = way(select(func.count()).select_from(SWITCHES))
    clear = way(delete(SWITCHES))
    sleep = way(select(func.pg_sleep(5)))

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


def _looks_in(port: int) -> list[float]:
    """Tell in how many seconds the kernel probes each connection of a server that is at rest."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    timers = [
        timer
        for _, local, *_, timer in (each[:6] for each in sockets)
        if local[-4:] == f"{port:04X}"
    ]
    return [
        int(ticks, 16) / os.sysconf("SC_CLK_TCK")
        for kind, ticks in (timer.split(":") for timer in timers)
        if kind == "02"
    ]
