"""Files for jobs' inputs: kept for days, and seen only by their owner and whoever has a link."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.ids import is_id
from app.db.engine import Database
from app.db.models import FileRow, JobFileRow
from app.db.records import columns_of, record_of
from app.db.users import disabled_among
from app.storage.errors import UnknownFileError
from app.storage.job_files import is_over
from app.storage.store import Storage

PREFIX = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """`key` is where the bytes are; it never leaves the server."""

    id: str
    user_id: str
    key: str
    size: int
    sha256: str
    media_type: str
    created_at: datetime
    expires_at: datetime


class FileService:
    def __init__(self, *, database: Database, storage: Storage, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock

    async def get(self, file_id: str, *, user_id: str) -> File:
        found = await self.find_many([file_id], user_id=user_id)
        if file_id not in found:
            raise UnknownFileError(file_id)
        return found[file_id]

    async def find_many(self, file_ids: Sequence[str], *, user_id: str) -> Mapping[str, File]:
        """Return those of these files that are this user's and still kept."""
        at = self._clock.now()
        known = [file_id for file_id in file_ids if is_id(file_id, prefix=PREFIX)]

        async def work(connection: AsyncConnection) -> Mapping[str, File]:
            found = await connection.execute(
                _FILES.where(
                    _READY, FileRow.id.in_(known), FileRow.user_id == user_id, ~is_over(at)
                )
            )
            return {row.id: file_from_row(row) for row in found}

        return await self._database.look_up(work) if known else {}

    async def get_signed(self, file_id: str) -> File:
        """Return a file for the bearer of a link that this gateway signed, while it is kept."""

        async def work(connection: AsyncConnection) -> File | None:
            found = await connection.execute(_FILES.where(_READY, FileRow.id == file_id))
            row = found.one_or_none()
            if row is None or await disabled_among(connection, {row.user_id}):
                return None
            return file_from_row(row)

        file = await self._database.look_up(work) if is_id(file_id, prefix=PREFIX) else None
        if file is None:
            raise UnknownFileError(file_id)
        return file

    async def of_job(self, job_id: str) -> Mapping[str, File]:
        """Return the files that a job's input names, by pointer."""

        async def work(connection: AsyncConnection) -> Mapping[str, File]:
            found = await connection.execute(
                _FILES.add_columns(JobFileRow.pointer)
                .join(JobFileRow, JobFileRow.file_id == FileRow.id)
                .where(JobFileRow.job_id == job_id)
            )
            return {row.pointer: file_from_row(row) for row in found}

        return await self._database.read(work)

    def read(self, file: File, start: int, stop: int) -> AsyncIterator[bytes]:
        return self._storage.read(file.key, start=start, stop=stop)

    async def require_content(self, file: File) -> None:
        """Raise UnknownFileError if its object is gone or cut short, or StorageUnavailableError."""
        if await self._storage.size(file.key) != file.size:
            raise UnknownFileError(file.id)

    async def read_whole(self, file: File) -> bytes:
        return b"".join([piece async for piece in self.read(file, 0, file.size)])


COLUMNS: Sequence[Any] = (FileRow.storage_key, *columns_of(FileRow, File))
_FILES = select(*COLUMNS)
_READY = FileRow.state == "ready"


def file_from_row(row: Any) -> File:
    return record_of(File, row, key=row.storage_key)
