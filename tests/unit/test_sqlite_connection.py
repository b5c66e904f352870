"""What is not handed to the connection's thread still comes in its turn."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.db.sqlite import Connection

SLOW = (
    "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 300000)"
    " SELECT count(*) FROM numbers"
)


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    opened = await Connection.make(
        str(tmp_path / "a.db"), check_same_thread=False, isolation_level=None
    )
    assert isinstance(opened, Connection)
    yield opened
    await opened.close()


async def rows(connection: Connection, sql: str) -> list[tuple[object, ...]]:
    async with connection.cursor() as cursor:
        await cursor.execute(sql)
        return list(await cursor.fetchall())


async def test_rows_come_with_their_statement_and_once(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT 1 UNION SELECT 2")
        assert await cursor.fetchall() == [(1,), (2,)]
        assert await cursor.fetchall() == ()


async def test_what_is_rolled_back_never_was(connection: Connection) -> None:
    await rows(connection, "CREATE TABLE t (n)")
    for end, left in ((connection.rollback, []), (connection.commit, [(1,)])):
        await rows(connection, "BEGIN")
        await rows(connection, "INSERT INTO t VALUES (1)")
        await end()
        assert await rows(connection, "SELECT n FROM t") == left


async def test_a_statement_that_fails_leaves_the_next_as_quick(connection: Connection) -> None:
    with pytest.raises(Exception, match="no such table"):
        await rows(connection, "SELECT * FROM t")
    assert not connection._has_work  # noqa: SLF001
    assert await rows(connection, "SELECT 1") == [(1,)]


async def test_who_is_cancelled_leaves_a_statement_that_all_else_waits_for(
    connection: Connection,
) -> None:
    await rows(connection, "BEGIN")
    counting = asyncio.ensure_future(rows(connection, SLOW))
    await asyncio.sleep(0)  # noqa: TID251 - yields, until the statement is under way
    counting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await counting
    await connection.rollback()
    assert await rows(connection, "SELECT 1") == [(1,)]
