"""Uploads: how files get here, from clients and out of the inputs of jobs.

    (nothing) --row--> uploading --object, then row--> ready --expired, in no live job--> discarded
                           `------- broken off, or too old ------------------------------^

The row is written before the object, so that every object can be found and deleted.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError, UserGoneError
from app.core.ids import new_id
from app.core.media_types import HEAD_BYTES, kind_of, sniff
from app.db.engine import Database
from app.db.models import FileRow, UserRow
from app.db.users import keep_user
from app.db.work import Work
from app.storage import discards
from app.storage.discards import Sweeper
from app.storage.errors import FileTooLargeError, StorageUnavailableError, UnsupportedFileError
from app.storage.files import COLUMNS, PREFIX, File, file_from_row
from app.storage.store import Storage, Stored, new_key

_UPLOAD_WITHIN = timedelta(hours=6)
_KINDS = (
    "a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF image, an MP4, MOV, WebM or MKV video, or an"
    " MP3, WAV, Ogg, M4A or FLAC sound"
)


class UploadsConfig(BaseModel):
    """`life` is how long a file is kept, or longer if a live job names it; sizes are in bytes."""

    model_config = ConfigDict(frozen=True)

    life: timedelta = timedelta(days=7)
    largest_image: int = 50 * 2**20
    largest_other: int = 100 * 2**20


class Uploads:
    def __init__(
        self,
        *,
        database: Database,
        storage: Storage,
        sweeper: Sweeper,
        config: UploadsConfig,
        clock: Clock,
    ) -> None:
        self._database = database
        self._storage = storage
        self._sweeper = sweeper
        self._config = config
        self._clock = clock

    async def receive(self, source: AsyncIterator[bytes], *, user_id: str) -> File:
        """Store what `source` yields; its first bytes decide what it is and how long it may be.

        Raises UnsupportedFileError before anything is stored, FileTooLargeError at the first byte
        too many, StorageUnavailableError, UserGoneError, or what `source` raises; then nothing is
        kept.
        """
        head, rest = await _peek(source)
        media_type = sniff(head)
        if media_type is None:
            what = "is empty" if not head else "is of a kind unknown by its first bytes"
            raise UnsupportedFileError(f"The file {what}; send {_KINDS}.")
        draft = await self._begin(user_id, made_for=None)
        try:
            stored = await self._storage.put(draft.key, self._bounded(rest, media_type))
            at = self._clock.now()
            return await self._measure(
                draft,
                stored,
                media_type,
                state="ready",
                created_at=at,
                expires_at=at + self._config.life,
            )
        except BaseException:
            await self._give_up(draft)
            raise

    async def keep(self, data: bytes, *, declared: str, user_id: str, made_for: str) -> File:
        """Store a file from inside a job's input; nobody sees it until the job is accepted."""
        draft = await self._begin(user_id, made_for=made_for)
        try:
            stored = await self._storage.put(draft.key, _once(data))
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

        await self._undo(work)

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

        await self._undo(work)

    async def _undo(self, work: Work[Sequence[str]]) -> None:
        """Delete a failed upload. If the database is down, its row expires and the error stands."""
        with suppress(DatabaseUnavailableError):
            await self._sweeper.delete(await self._database.transact(work))

    async def _bounded(self, source: AsyncIterator[bytes], media_type: str) -> AsyncIterator[bytes]:
        image = kind_of(media_type) == "image"
        most = self._config.largest_image if image else self._config.largest_other
        size = 0
        async for chunk in source:
            size += len(chunk)
            if size > most:
                raise FileTooLargeError(
                    f"{'An image' if image else 'A video or sound'} may have at most {most} bytes;"
                    " send a smaller one."
                )
            yield chunk

    async def _begin(self, user_id: str, *, made_for: str | None) -> "_Draft":
        draft = _Draft(id=new_id(PREFIX), user_id=user_id, key=new_key(self._storage.uploads))
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

    async def _measure(
        self, draft: "_Draft", stored: Stored, media_type: str, **further: Any
    ) -> File:
        async def work(tx: AsyncConnection) -> File | None:
            written = await tx.execute(
                update(FileRow)
                .where(FileRow.id == draft.id, FileRow.state == "uploading")
                .values(size=stored.size, sha256=stored.sha256, media_type=media_type, **further)
                .returning(*COLUMNS)
            )
            row = written.one_or_none()
            owner = select(UserRow.id).where(UserRow.id == draft.user_id)
            if row is None and (await tx.execute(owner)).one_or_none() is None:
                raise UserGoneError
            return None if row is None else file_from_row(row)

        file = await self._database.transact(work)
        if file is None:  # it took so long that the upload was abandoned
            raise StorageUnavailableError
        return file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    id: str
    user_id: str
    key: str


async def _peek(source: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """Read enough to tell what a file is; return that, and an iterator over the whole file."""
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
