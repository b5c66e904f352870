"""Files that clients uploaded for their jobs' inputs: kept for days, seen only by their owner.

    (nothing) --row--> uploading --object, then row--> ready --expired, in no live job--> discarded
                           `------- broken off, or too old ------------------------------^

The row comes before the object, so that every object can be found and deleted by it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.errors import UserGoneError
from app.core.ids import is_id, new_id
from app.core.media_types import HEAD_BYTES, kind_of, sniff
from app.db.engine import Database
from app.db.models import FileRow, JobFileRow, UserRow
from app.db.users import disabled_among, keep_user
from app.storage import discards
from app.storage.discards import Sweeper
from app.storage.errors import (
    FileTooLargeError,
    NoStorageError,
    StorageUnavailableError,
    UnknownFileError,
    UnsupportedFileError,
)
from app.storage.store import Storage, Stored, new_key

PREFIX = "file"

_UPLOAD_WITHIN = timedelta(hours=6)
_KINDS = "a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF image, or an MP4, MOV or WebM video"


class FilesConfig(BaseModel):
    model_config = ConfigDict(frozen=True)

    life: timedelta = timedelta(days=7)
    largest_image: int = 50 * 2**20
    largest_other: int = 100 * 2**20


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
    def __init__(
        self,
        *,
        database: Database,
        storage: Storage | None,
        sweeper: Sweeper,
        config: FilesConfig,
        clock: Clock,
    ) -> None:
        self._database = database
        self._storage = storage
        self._sweeper = sweeper
        self._config = config
        self._clock = clock

    @property
    def has_storage(self) -> bool:
        return self._storage is not None

    async def upload(self, source: AsyncIterator[bytes], *, user_id: str) -> File:
        """Store what `source` yields; its first bytes decide what it is and how long it may be.

        Raises UnsupportedFileError before anything is stored, FileTooLargeError at the first byte
        too many, NoStorageError, UserGoneError, or what `source` raises; then nothing is kept.
        """
        storage = self._required()
        head, rest = await _peek(source)
        media_type = sniff(head)
        if media_type is None:
            what = "is empty" if not head else "is of a kind unknown by its first bytes"
            raise UnsupportedFileError(f"The file {what}; send {_KINDS}.")
        draft = await self._begin(user_id, made_for=None)
        try:
            stored = await storage.put(draft.key, self._bounded(rest, media_type))
            return await self._finish(draft, stored, media_type)
        except BaseException:
            await self._give_up(draft)
            raise

    async def keep(self, data: bytes, *, declared: str, user_id: str, made_for: str) -> File:
        """Store what a job's input held; nobody sees it until the job is accepted."""
        draft = await self._begin(user_id, made_for=made_for)
        try:
            stored = await self._required().put(draft.key, _once(data))
            return await self._measure(draft, stored, sniff(stored.head) or declared)
        except BaseException:
            await self._give_up(draft)
            raise

    async def drop(self, file_ids: Sequence[str]) -> None:
        """Delete files that nobody has seen yet."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Sequence[str]:
            dropped = await tx.execute(
                delete(FileRow)
                .where(FileRow.id.in_(file_ids), FileRow.state == "uploading")
                .returning(FileRow.storage_key)
            )
            keys = list(dropped.scalars())
            await discards.discard(tx, keys, due_at=at)
            return keys

        await self._sweeper.delete(await self._database.transact(work))

    async def _give_up(self, draft: "_Draft") -> None:
        """Delete an upload, and its bytes even if its row was deleted with its user."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Sequence[str]:
            await tx.execute(
                delete(FileRow).where(FileRow.id == draft.id, FileRow.state == "uploading")
            )
            left = await tx.execute(select(FileRow.id).where(FileRow.id == draft.id))
            keys = [] if left.one_or_none() else [draft.key]
            await discards.discard(tx, keys, due_at=at + discards.LATE_WRITERS)
            return keys

        await self._sweeper.delete(await self._database.transact(work))

    async def get(self, file_id: str, *, user_id: str) -> File:
        found = await self.find_many([file_id], user_id=user_id)
        if file_id not in found:
            raise UnknownFileError(file_id)
        return found[file_id]

    async def find_many(self, file_ids: Sequence[str], *, user_id: str) -> Mapping[str, File]:
        """Return those of these files that are this user's and have not expired."""
        at = self._clock.now()
        known = [file_id for file_id in file_ids if is_id(file_id, prefix=PREFIX)]

        async def work(connection: AsyncConnection) -> Mapping[str, File]:
            found = await connection.execute(
                _FILES.where(
                    _READY,
                    FileRow.id.in_(known),
                    FileRow.user_id == user_id,
                    FileRow.expires_at > at,
                )
            )
            return {row.id: _file(row) for row in found}

        return await self._database.look_up(work) if known else {}

    async def get_signed(self, file_id: str) -> File:
        """Return a file to the bearer of a link that this gateway signed, as long as it is kept."""

        async def work(connection: AsyncConnection) -> File | None:
            found = await connection.execute(_FILES.where(_READY, FileRow.id == file_id))
            row = found.one_or_none()
            if row is None or await disabled_among(connection, {row.user_id}):
                return None
            return _file(row)

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
            return {row.pointer: _file(row) for row in found}

        return await self._database.read(work)

    def read(self, file: File, start: int, stop: int) -> AsyncIterator[bytes]:
        return self._required().read(file.key, start=start, stop=stop)

    async def require_content(self, file: File) -> None:
        """Raise UnknownFileError if its object is gone or cut short, or StorageUnavailableError."""
        if await self._required().size(file.key) != file.size:
            raise UnknownFileError(file.id)

    async def read_head(self, file: File, *, most: int) -> bytes:
        """Return at most so many bytes of its beginning."""
        pieces = self.read(file, 0, min(most, file.size))
        return b"".join([piece async for piece in pieces])

    def _required(self) -> Storage:
        if self._storage is None:
            raise NoStorageError
        return self._storage

    async def _bounded(self, source: AsyncIterator[bytes], media_type: str) -> AsyncIterator[bytes]:
        image = kind_of(media_type) == "image"
        most = self._config.largest_image if image else self._config.largest_other
        size = 0
        async for chunk in source:
            size += len(chunk)
            if size > most:
                raise FileTooLargeError(
                    f"{'An image' if image else 'A video'} may have at most {most} bytes;"
                    " send a smaller one."
                )
            yield chunk

    async def _begin(self, user_id: str, *, made_for: str | None) -> "_Draft":
        draft = _Draft(id=new_id(PREFIX), user_id=user_id, key=new_key("files"))
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> None:
            await keep_user(tx, user_id)
            await tx.execute(
                insert(FileRow).values(
                    id=draft.id,
                    user_id=user_id,
                    storage_key=draft.key,
                    state="uploading",
                    made_for=made_for,
                    created_at=at,
                    expires_at=at + _UPLOAD_WITHIN,
                )
            )

        await self._database.transact(work)
        return draft

    async def _finish(self, draft: "_Draft", stored: Stored, media_type: str) -> File:
        at = self._clock.now()
        return await self._measure(
            draft,
            stored,
            media_type,
            state="ready",
            created_at=at,
            expires_at=at + self._config.life,
        )

    async def _measure(
        self, draft: "_Draft", stored: Stored, media_type: str, **further: Any
    ) -> File:
        async def work(tx: AsyncConnection) -> File | None:
            written = await tx.execute(
                update(FileRow)
                .where(FileRow.id == draft.id, FileRow.state == "uploading")
                .values(size=stored.size, sha256=stored.sha256, media_type=media_type, **further)
                .returning(*_COLUMNS)
            )
            row = written.one_or_none()
            owner = select(UserRow.id).where(UserRow.id == draft.user_id)
            if row is None and (await tx.execute(owner)).one_or_none() is None:
                raise UserGoneError
            return None if row is None else _file(row)

        file = await self._database.transact(work)
        if file is None:  # it took so long that the upload was given up
            raise StorageUnavailableError
        return file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    id: str
    user_id: str
    key: str


_COLUMNS: tuple[Any, ...] = (
    FileRow.id,
    FileRow.user_id,
    FileRow.storage_key,
    FileRow.size,
    FileRow.sha256,
    FileRow.media_type,
    FileRow.created_at,
    FileRow.expires_at,
)
_FILES = select(*_COLUMNS)
_READY = FileRow.state == "ready"


def _file(row: Any) -> File:
    return File(
        id=row.id,
        user_id=row.user_id,
        key=row.storage_key,
        size=row.size,
        sha256=row.sha256,
        media_type=row.media_type,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


async def _peek(source: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """Read enough to know what a file is; return that, and an iterator over the whole file."""
    head = b""
    async for chunk in source:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break

    async def whole() -> AsyncIterator[bytes]:
        yield head
        async for chunk in source:
            yield chunk

    return head[:HEAD_BYTES], whole()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
