"""What a read costs on Postgres: its statements, and no transaction around them."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database, open_database
from tests.support.databases import PostgresDatabases

# A transaction has one time for all of its statements.
BEGAN = text("SELECT transaction_timestamp()")


@pytest.fixture
async def database(postgres_url: str, worker_id: str) -> AsyncIterator[Database]:
    with PostgresDatabases(postgres_url, prefix=f"{worker_id}_reads").empty() as url:
        opened = open_database(url)
        yield opened
        await opened.close()


async def began_twice(connection: AsyncConnection) -> bool:
    return await connection.scalar(BEGAN) != await connection.scalar(BEGAN)


async def test_a_read_has_no_transaction(database: Database) -> None:
    for _ in range(2):  # of a new connection, and of one that comes back
        assert await database.read(began_twice)
        assert await database.look_up(began_twice)


async def test_a_transaction_is_one(database: Database) -> None:
    assert not await database.transact(began_twice)
