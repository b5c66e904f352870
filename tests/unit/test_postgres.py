"""How statements reach Postgres: reads without a transaction, over connections that are kept."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Text, bindparam, func, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import SystemClock
from app.db.engine import Database, open_database
from app.db.notices import Notices
from app.db.prepared import made_once
from tests.support.databases import Databases
from tests.support.wires import Pooler, running_wire

# A transaction has one time for all of its statements.
BEGAN = text("SELECT transaction_timestamp()")
BACKEND = text("SELECT pg_backend_pid()")
CUT_OFF = text("SELECT pg_terminate_backend(pg_backend_pid())")
LISTENERS_CUT_OFF = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
)
PREPARED = text("SELECT count(*) FROM pg_prepared_statements")
TABLES = text("SELECT count(*) FROM pg_tables WHERE tablename = 'made'")
LENGTH = made_once(select(func.length(bindparam("text", type_=Text))))
UNREAD = made_once(select(func.length(bindparam("text", type_=Text)) + 1), wants_rows=False)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    databases: Databases = request.getfixturevalue("_postgres_databases")
    with databases.empty() as url:
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = open_database(url)
    yield opened
    await opened.close()


async def began_twice(connection: AsyncConnection) -> bool:
    return await connection.scalar(BEGAN) != await connection.scalar(BEGAN)


async def isolation(connection: AsyncConnection) -> str:
    return str(await connection.scalar(text("SHOW transaction_isolation")))


async def test_a_read_has_no_transaction(database: Database) -> None:
    for _ in range(2):  # of a new connection, and of one that comes back
        assert await database.read(began_twice)
        assert await database.look_up(began_twice)


async def test_a_transaction_is_one(database: Database) -> None:
    assert not await database.transact(began_twice)


async def test_a_statement_sees_what_is_committed_by_then_whatever_the_server_prefers(
    url: str,
) -> None:
    """Who waited for a lock must count what its holder did."""
    default = {"options": "-c default_transaction_isolation=serializable"}
    strict = make_url(url).update_query_dict(default).render_as_string(hide_password=False)
    database = open_database(strict)
    assert await database.read(isolation) == "serializable"
    assert await database.transact(isolation) == "read committed"
    await database.close()


async def test_who_loses_a_race_for_a_row_begins_anew(database: Database, url: str) -> None:
    tries: list[int] = []

    async def make(tx: AsyncConnection) -> None:
        await tx.execute(text("CREATE TABLE made (n int PRIMARY KEY)"))

    async def add(tx: AsyncConnection) -> None:
        await tx.execute(text("INSERT INTO made VALUES (1)"))

    async def find_or_add(tx: AsyncConnection) -> None:
        tries.append(1)
        if not await tx.scalar(text("SELECT count(*) FROM made")):
            await rival.transact(add)
            await add(tx)

    rival = open_database(url)
    await database.transact(make)
    try:
        await database.transact(find_or_add)
    finally:
        await rival.close()
    assert len(tries) == 2


async def test_what_is_long_is_sent_to_its_end_at_once(database: Database) -> None:
    long = {"text": "x" * 2**24}

    async def work(tx: AsyncConnection) -> int:
        await tx.execute(UNREAD, long)
        await tx.execute(UNREAD, long)
        return int((await tx.execute(LENGTH, long)).scalar_one())

    async with asyncio.timeout(10):  # before a server that waits for more takes it for frozen
        assert await database.transact(work) == 2**24


@pytest.mark.parametrize("is_long", [True, False])
async def test_searches_leave_a_reader_to_others_and_long_ones_a_place_to_short_ones(
    database: Database, *, is_long: bool
) -> None:
    go_on = asyncio.Event()

    async def long(_: AsyncConnection) -> None:
        await go_on.wait()

    searches = [asyncio.ensure_future(database.search(long, is_long=is_long)) for _ in range(20)]
    use = database.search if is_long else database.look_up
    other = asyncio.ensure_future(use(began_twice))  # when they have begun
    try:
        async with asyncio.timeout(60):
            assert await other
    finally:
        go_on.set()
        await asyncio.gather(*searches)


async def test_a_connection_stays_at_hand_until_a_use_of_it_fails(database: Database) -> None:
    async def backend(connection: AsyncConnection) -> int:
        return int(await connection.scalar(BACKEND))

    async def open_one_and_fail(tx: AsyncConnection) -> None:
        await tx.execute(text("CREATE TABLE made (n int)"))
        raise LookupError

    async def count_tables(connection: AsyncConnection) -> int:
        return int(await connection.scalar(TABLES))

    first = await database.transact(backend)
    assert await database.transact(backend) == first
    assert len({*await asyncio.gather(*(database.transact(backend) for _ in range(20)))}) <= 8
    with pytest.raises(LookupError):
        await database.transact(open_one_and_fail)
    assert await database.transact(count_tables) == 0
    assert database.pools()["writer"] == {"in_use": 0, "size": 8}


async def test_a_use_that_fails_by_itself_leaves_the_others_at_hand(database: Database) -> None:
    kept = database._connections._writer  # type: ignore[attr-defined]  # noqa: SLF001
    async with kept.connection():
        with pytest.raises(LookupError):
            async with kept.connection():
                raise LookupError
    assert kept.engine.pool.checkedout() == 1


async def test_who_is_at_work_while_another_is_cut_off_gives_a_connection_back(
    database: Database,
) -> None:
    """It may be as lost as the other's, which only the pool knows to make anew."""
    kept = database._connections._writer  # type: ignore[attr-defined]  # noqa: SLF001
    async with kept.connection():
        with pytest.raises(DBAPIError):
            async with kept.connection() as cut_off:
                await cut_off.execute(CUT_OFF)
    assert kept.engine.pool.checkedout() == 0


async def test_no_statement_is_compiled_to_machine_code(database: Database) -> None:
    """Over large tables that takes longer than what is found there."""

    async def setting(connection: AsyncConnection) -> str:
        return str(await connection.scalar(text("SHOW jit")))

    assert await database.read(setting) == await database.transact(setting) == "off"


async def prepared(connection: AsyncConnection) -> int:
    await connection.execute(LENGTH, {"text": "a"})
    return int(await connection.scalar(PREPARED))


async def test_nothing_is_prepared_where_a_pooler_lends_the_connection_to_others(
    database: Database, url: str
) -> None:
    """What they prepared would be executed with our values, if it had the same name."""
    folder = make_url(url).query["host"]
    assert isinstance(folder, str)
    with running_wire(Path(folder) / ".s.PGSQL.5432", kind=Pooler) as pooler:
        through = make_url(url).set(host="127.0.0.1", port=pooler.port, query={})
        pooled = open_database(through.render_as_string(hide_password=False))
        assert await pooled.read(prepared) == await pooled.transact(prepared) == 0
        await pooled.close()
    assert await database.read(prepared) == await database.transact(prepared) == 1


async def test_a_listener_that_is_cut_off_listens_again_and_wakes_nobody(
    database: Database, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard = asyncio.Event()
    notices = Notices(url, channel="news", clock=SystemClock())
    listening = asyncio.ensure_future(notices.run(heard.set))
    async with asyncio.timeout(60):
        await heard.wait()
        heard.clear()
        assert await database.read(lambda connection: connection.scalar(LISTENERS_CUT_OFF)) == 1
        await heard.wait()
    listening.cancel()
    await asyncio.wait({listening})
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
