"""Objects in rows are as good as those in a folder, and stay where they are."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database, opened_database
from app.storage.errors import ObjectGoneError, StorageUnavailableError
from app.storage.opening import open_folder
from app.storage.rows import RowStorage, SplitStorage
from app.storage.store import Storage, new_key
from tests.support.storages import files_below
from tests.support.switched_database import SwitchedDatabase

pytestmark = pytest.mark.either_database

MIB = 2**20
DATA = b"".join(n.to_bytes(4, "big") for n in range(MIB))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened_database(database_url) as opened:
        yield opened


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def whole(storage: Storage, key: str, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in storage.read(key, start=start, stop=stop)])


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 4 * MIB - 3])
async def test_what_was_put_is_read_by_ranges_until_it_is_deleted(
    database: Database, size: int
) -> None:
    storage, data = RowStorage(database), DATA[:size]
    key, other = new_key("rows"), new_key("rows")
    await storage.put(other, chunks(b"another"))
    source = (data[at : at + 700_001] for at in range(0, size, 700_001))
    stored = await storage.put(key, chunks(*source))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert await storage.size(key) == size
    for start, stop in ((0, size), (MIB - 3, 2 * MIB + 5), (size - 1, size), (MIB, MIB + 1)):
        if 0 <= start < stop <= size:
            assert await whole(storage, key, start, stop) == data[start:stop]
    await storage.delete(key)
    await storage.delete(key)
    assert await storage.size(key) is None
    with pytest.raises(ObjectGoneError):
        await storage.read_piece(key, start=0, stop=1)
    assert await whole(storage, other, 0, 7) == b"another"


async def test_what_is_in_rows_stays_there_when_a_storage_is_set(
    database: Database, tmp_path: Path
) -> None:
    rows, folder = RowStorage(database), open_folder(tmp_path)
    both = SplitStorage(objects=folder, rows=rows)
    old, new = new_key(rows.uploads), new_key(both.uploads)
    await rows.put(old, chunks(b"old"))
    await both.put(new, chunks(b"new"))
    assert len(files_below(tmp_path)) == 1
    assert [await whole(both, key, 0, 3) for key in (old, new)] == [b"old", b"new"]
    assert [await both.size(key) for key in (old, new)] == [3, 3]
    for key in (old, new):
        await both.delete(key)
    assert (await rows.size(old), files_below(tmp_path)) == (None, [])


async def test_each_part_is_read_once_wherever_a_range_begins(
    database: Database, tmp_path: Path
) -> None:
    rows, key = RowStorage(database), new_key("rows")
    await rows.put(key, chunks(DATA[: 3 * MIB]))
    for storage in (rows, SplitStorage(objects=open_folder(tmp_path), rows=rows)):
        pieces = [piece async for piece in storage.read(key, start=MIB - 3, stop=2 * MIB + 5)]
        assert [len(piece) for piece in pieces] == [3, MIB, 5]
        assert b"".join(pieces) == DATA[MIB - 3 : 2 * MIB + 5]


async def test_what_is_in_a_storage_that_is_not_set_is_not_gone(database: Database) -> None:
    storage = RowStorage(database)
    key = new_key("files")
    for asking in (
        storage.size(key),
        storage.read_piece(key, start=0, stop=1),
        storage.put(key, chunks(b"x")),
        storage.delete(key),
    ):
        with pytest.raises(StorageUnavailableError):
            await asking


async def test_what_cannot_be_deleted_while_the_database_is_away_is_deleted_later(
    database_url: str,
) -> None:
    switched = SwitchedDatabase(database_url)
    try:
        storage, key = RowStorage(switched), new_key("rows")
        await storage.put(key, chunks(b"data"))
        switched.away = True
        with pytest.raises(StorageUnavailableError):
            await storage.delete(key)
        switched.away = False
        assert await storage.size(key) == 4
    finally:
        await switched.close()


async def test_slow_parts_hold_up_nothing_else(postgres_database: str) -> None:
    """Over a slow line a hundred files would keep every connection busy for half a minute."""
    waiting = text(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND relation = 'file_parts'::regclass AND NOT granted"
    )

    async def look(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT 1"))

    async with (
        opened_database(postgres_database) as database,
        opened_database(postgres_database) as beside,
        asyncio.TaskGroup() as group,
    ):
        storage = RowStorage(database)
        old = new_key("rows")
        await storage.put(old, chunks(b"old"))

        async def while_locked(tx: AsyncConnection) -> None:
            await tx.execute(text("LOCK TABLE file_parts"))
            for _ in range(20):
                group.create_task(storage.read_piece(old, start=0, stop=3))
                group.create_task(storage.put(new_key("rows"), chunks(b"new")))
            while await tx.scalar(waiting) < 2:
                pass
            async with asyncio.timeout(5):
                await database.look_up(look)
                await database.transact(look)

        await beside.transact(while_locked)
