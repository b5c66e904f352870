"""Objects in the database itself, in rows: where replicas share no other storage."""

import asyncio
from collections.abc import AsyncIterator

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import DatabaseUnavailableError
from app.db.engine import Database
from app.db.models import FilePartRow
from app.storage.errors import ObjectGoneError, StorageUnavailableError
from app.storage.store import Measured, Storage, Stored

_PART = 2**20  # bytes in each row but the last
# How many are read, and how many written: less than half of the connections for each. Over a slow
# line a part takes long, and everything else would wait behind the parts of a hundred files.
_AT_ONCE = 3


class RowStorage(Storage):
    """Keeps uploads only, each under a new key: archived outputs are too much for a database.

    Each part is a transaction of its own, since a slow client must not hold a connection. What an
    upload that broke off leaves is deleted like any other object, by the row of its file.
    """

    uploads = "rows"
    holds = f"{uploads}/"
    piece = _PART

    def __init__(self, database: Database) -> None:
        self._database = database
        self._to_read = asyncio.Semaphore(_AT_ONCE)
        self._to_write = asyncio.Semaphore(_AT_ONCE)

    async def put(self, key: str, source: AsyncIterator[bytes]) -> Stored:
        _check(key)
        measured = Measured(source)
        n, rest = 0, bytearray()
        async for chunk in measured.chunks():
            rest += chunk
            while len(rest) >= _PART:
                await self._add(key, n, bytes(rest[:_PART]))
                n += 1
                del rest[:_PART]
        await self._add(key, n, bytes(rest))
        return measured.stored()

    async def read_piece(self, key: str, *, start: int, stop: int) -> bytes:
        """Read to the end of a part at most, so that each part is read once."""
        _check(key)
        n, offset = divmod(start, _PART)
        part = select(FilePartRow.data).where(FilePartRow.storage_key == key, FilePartRow.n == n)

        async def work(connection: AsyncConnection) -> bytes | None:
            data: bytes | None = await connection.scalar(part)
            return data

        async with self._to_read:
            data = await self._database.read(work)
        piece = (data or b"")[offset : offset + stop - start]
        if not piece:
            raise ObjectGoneError(key)
        return piece

    async def size(self, key: str) -> int | None:
        _check(key)
        length = select(func.sum(func.length(FilePartRow.data))).where(
            FilePartRow.storage_key == key
        )

        async def work(connection: AsyncConnection) -> int | None:
            size: int | None = await connection.scalar(length)
            return size

        return await self._database.read(work)

    async def delete(self, key: str) -> None:
        _check(key)
        parts = delete(FilePartRow).where(FilePartRow.storage_key == key)
        try:
            await self._database.transact(lambda tx: tx.execute(parts))
        except DatabaseUnavailableError as exc:
            raise StorageUnavailableError from exc

    async def _add(self, key: str, n: int, data: bytes) -> None:
        part = insert(FilePartRow).values(storage_key=key, n=n, data=data)
        async with self._to_write:
            await self._database.transact(lambda tx: tx.execute(part))


class SplitStorage(Storage):
    """Writes to `objects`; what was kept in rows before there was such a storage is still there."""

    def __init__(self, *, objects: Storage, rows: RowStorage) -> None:
        self._objects = objects
        self._rows = rows

    async def put(self, key: str, source: AsyncIterator[bytes]) -> Stored:
        return await self._objects.put(key, source)

    async def read_piece(self, key: str, *, start: int, stop: int) -> bytes:
        return await self._place_of(key).read_piece(key, start=start, stop=stop)

    def read(self, key: str, *, start: int, stop: int) -> AsyncIterator[bytes]:
        return self._place_of(key).read(key, start=start, stop=stop)

    async def size(self, key: str) -> int | None:
        return await self._place_of(key).size(key)

    async def delete(self, key: str) -> None:
        await self._place_of(key).delete(key)

    def _place_of(self, key: str) -> Storage:
        return self._rows if key.startswith(self._rows.holds) else self._objects


def _check(key: str) -> None:
    """Refuse what is in a storage that is not set any more: it may be set again."""
    if not key.startswith(RowStorage.holds):
        raise StorageUnavailableError
