"""What of SQLite is done at once, what a thread gets, and who waits for whom."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import closing
from contextvars import ContextVar
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import DatabaseUnavailableError
from app.db import sqlite
from app.db.engine import Database, open_database

ADD = text("INSERT INTO numbers VALUES (1)")
COUNT = text("SELECT count(*) FROM numbers")
SLOW = text(
    "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 1000000)"
    " SELECT count(*) FROM many"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=WAL")  # kept in the file: later connections wait for none
        made.execute("CREATE TABLE numbers (n)")
    return path


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    opened = open_database(f"sqlite:///{file}")
    yield opened
    await opened.close()


@pytest.fixture
def other(file: Path) -> Iterator[sqlite3.Connection]:
    """Be another process that is writing."""
    with closing(sqlite3.connect(file, isolation_level=None)) as opened:
        opened.execute("BEGIN IMMEDIATE")
        yield opened


async def add(tx: AsyncConnection) -> None:
    await tx.execute(ADD)


async def count(connection: AsyncConnection) -> int:
    return int(await connection.scalar(COUNT))


async def ticks_during(awaited: Awaitable[object]) -> int:
    """Tell how often the loop came round while something was waited for."""
    waiting, ticks = asyncio.ensure_future(awaited), 0
    while not waiting.done():
        ticks += 1
        await asyncio.sleep(0.001)  # noqa: TID251 - counts rounds of the real loop
    await waiting
    return ticks


async def test_what_fails_leaves_nothing_and_lets_the_next_in(database: Database) -> None:
    async def fail(tx: AsyncConnection) -> None:
        await add(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await database.transact(fail)
    assert await database.look_up(count) == 0
    await database.transact(add)
    assert await database.look_up(count) == await database.read(count) == 1


async def test_a_read_sees_one_state_of_the_data(database: Database) -> None:
    async def twice(connection: AsyncConnection) -> list[int]:
        before = await count(connection)
        await database.transact(add)
        return [before, await count(connection)]

    assert await database.look_up(twice) == [0, 0]
    assert await database.look_up(count) == 1


async def test_the_loop_goes_on_while_another_process_writes(
    database: Database, other: sqlite3.Connection
) -> None:
    writing = asyncio.ensure_future(database.transact(add))
    assert await ticks_during(asyncio.sleep(0.1)) > 1  # noqa: TID251 - as above
    assert not writing.done()
    other.execute("COMMIT")
    await writing
    assert await database.look_up(count) == 1


async def test_a_file_that_stays_locked_is_a_database_that_is_away(
    database: Database, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_FILE_WITHIN_MS", 1)
    with pytest.raises(DatabaseUnavailableError):
        await database.transact(add)
    other.execute("COMMIT")
    await database.transact(add)


async def test_whose_turn_does_not_come_is_told_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_TURN_WITHIN_S", 0.01)
    has_begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(tx: AsyncConnection) -> None:
        await add(tx)
        has_begun.set()
        await go_on.wait()

    holding = asyncio.ensure_future(database.transact(hold))
    await has_begun.wait()
    with pytest.raises(DatabaseUnavailableError):
        await database.transact(add)
    assert await database.look_up(count) == 0  # readers wait for nobody
    go_on.set()
    await holding
    assert await database.look_up(count) == 1


@pytest.mark.parametrize("times", [1, 3])
async def test_who_is_cancelled_while_it_waits_for_the_file_leaves_it_as_it_was(
    database: Database, other: sqlite3.Connection, times: int
) -> None:
    """Several times by a worker that ends, and then by the process that ends with it."""
    writing = asyncio.ensure_future(database.transact(add))
    for _ in range(times):
        await ticks_during(asyncio.sleep(0.01))  # noqa: TID251 - as above
        writing.cancel()
    await ticks_during(asyncio.sleep(0.01))  # noqa: TID251 - as above
    assert not writing.done()
    other.execute("COMMIT")
    with pytest.raises(asyncio.CancelledError):
        await writing
    await database.transact(add)
    assert await database.look_up(count) == 1


async def test_a_long_read_leaves_the_loop_to_others(database: Database) -> None:
    loop, came_round = asyncio.get_running_loop(), threading.Event()

    async def long(_: AsyncConnection) -> bool:
        loop.call_soon_threadsafe(came_round.set)
        return came_round.wait(60)

    assert await database.read(long)


@pytest.mark.parametrize("is_long", [True, False])
async def test_searches_leave_a_reader_to_others_and_long_ones_a_place_to_short_ones(
    database: Database, *, is_long: bool
) -> None:
    go_on = threading.Event()

    async def long(_: AsyncConnection) -> None:
        go_on.wait()

    searches = [asyncio.ensure_future(database.search(long, is_long=is_long)) for _ in range(20)]
    use = database.search if is_long else database.read
    other = asyncio.ensure_future(use(count))  # begins when they have begun
    try:
        async with asyncio.timeout(60):
            assert await other == 0
    finally:
        go_on.set()
        await asyncio.gather(*searches)


async def test_a_long_transaction_leaves_the_loop_to_others(database: Database) -> None:
    came_round = asyncio.Event()

    async def long(tx: AsyncConnection) -> bool:
        await add(tx)
        asyncio.get_running_loop().call_soon(came_round.set)
        await tx.execute(SLOW)
        return came_round.is_set()  # before the commit, which a thread has in any case

    assert await database.transact(long, is_long=True)
    assert await database.look_up(count) == 1


async def test_the_disk_that_a_very_long_transaction_took_is_given_back(
    database: Database, file: Path
) -> None:
    log = file.with_name("a.db-wal")
    big = text("INSERT INTO numbers VALUES (zeroblob(100000000))")

    async def write(tx: AsyncConnection) -> None:
        await tx.execute(big)

    await database.transact(write, is_long=True)
    assert log.stat().st_size > 100_000_000
    await database.transact(add)
    assert log.stat().st_size <= 64 * 2**20


async def test_a_read_runs_in_the_context_of_its_caller(database: Database) -> None:
    caller: ContextVar[str] = ContextVar("caller")
    caller.set("alice")

    async def whose(_: AsyncConnection) -> str:
        return caller.get()

    assert await database.read(whose) == "alice"


async def test_a_read_in_a_thread_can_wait_for_nothing_of_the_loop(database: Database) -> None:
    async def wait(_: AsyncConnection) -> None:
        await asyncio.sleep(0)  # noqa: TID251 - as above

    with pytest.raises(RuntimeError, match="only for its statements"):
        await database.read(wait)


async def test_a_connection_that_is_kept_at_hand_is_not_in_use(database: Database) -> None:
    async def look(_: AsyncConnection) -> int:
        return database.pools()["reader"]["in_use"]

    assert await database.look_up(look) == await database.read(look) == 1
    assert database.pools()["reader"]["in_use"] == 0
