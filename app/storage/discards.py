"""Objects that nothing refers to: noted in the transaction that drops them, deleted later."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.db.engine import Database
from app.db.models import DiscardRow, FileRow, JobRow, OutputRow
from app.db.statements import insert_into
from app.storage.errors import StorageUnavailableError
from app.storage.job_files import is_in_use, is_over
from app.storage.store import Storage

logger = structlog.get_logger(__name__)

# A writer that lost its lease may go on for this long; the object is deleted again after that.
LATE_WRITERS = timedelta(hours=1)
# When to retry what the store refuses to delete: it has a retention, or a permission is missing.
_RETRY_AFTER = timedelta(hours=1)
# A store that fails for this long is probably down, and a caller may be waiting.
_GIVE_UP_AFTER = timedelta(seconds=5)
_BATCH = 100


async def discard(tx: AsyncConnection, keys: Iterable[str], *, due_at: datetime) -> None:
    rows = [{"storage_key": key, "due_at": due_at} for key in sorted(set(keys))]
    if rows:
        await tx.execute(insert_into(tx, DiscardRow).on_conflict_do_nothing(), rows)


async def output_keys(tx: AsyncConnection, job_ids: Sequence[str]) -> Sequence[str]:
    """Return the keys of these jobs' outputs; call this before the jobs are deleted."""
    found = await tx.execute(select(OutputRow.storage_key).where(OutputRow.job_id.in_(job_ids)))
    return list(found.scalars())


async def discard_jobs(
    tx: AsyncConnection, job_ids: Sequence[str], *, outputs: Iterable[str], at: datetime
) -> Sequence[str]:
    """Discard what belonged to jobs that were just deleted; return the keys, to delete now.

    A file that another, unfinished job names as well is discarded when that one ends. Rows are
    locked first and tested after, as in `Sweeper.expire`.
    """
    made_for = FileRow.made_for.in_(job_ids)
    await tx.execute(select(FileRow.id).where(made_for).order_by(FileRow.id).with_for_update())
    freed = await tx.execute(
        delete(FileRow).where(made_for, ~is_in_use()).returning(FileRow.storage_key)
    )
    await tx.execute(update(FileRow).where(made_for).values(expires_at=at, made_for=None))
    keys = [*freed.scalars(), *outputs]
    await discard(tx, keys, due_at=at + LATE_WRITERS)
    return keys


async def discard_users(tx: AsyncConnection, user_ids: Sequence[str], *, at: datetime) -> None:
    """Discard all files of users without live jobs; call this before the users are deleted.

    Objects that may still be in the middle of a write are due once that must have ended.
    """
    outputs = await tx.execute(
        select(OutputRow.storage_key, OutputRow.state)
        .join(JobRow, JobRow.id == OutputRow.job_id)
        .where(JobRow.user_id.in_(user_ids))
    )
    files = await tx.execute(
        delete(FileRow)
        .where(FileRow.user_id.in_(user_ids))
        .returning(FileRow.storage_key, FileRow.state)
    )
    rows = [*outputs, *files]
    arriving = {row.storage_key for row in rows if row.state in {"waiting", "uploading"}}
    kept = {row.storage_key for row in rows} - arriving
    await discard(tx, kept, due_at=at)
    await discard(tx, arriving, due_at=at + LATE_WRITERS)


class Sweeper:
    """Deletes what was discarded; what another storage holds waits for a process that has it."""

    def __init__(self, *, database: Database, storage: Storage, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock

    async def delete(self, keys: Sequence[str]) -> None:
        """Try to delete what was just discarded; the pruner retries what the storage keeps."""
        await self._try([key for key in keys if key.startswith(self._storage.holds)])

    async def expire(self) -> int:
        """Discard a batch of expired files, except those that a live job names; return how many.

        Rows are locked first and tested after, so as to wait for a job that is just linking one.
        """
        at = self._clock.now()
        expired = select(FileRow.id).where(is_over(at))

        async def look(connection: AsyncConnection) -> bool:
            return (await connection.execute(expired.limit(1))).first() is not None

        async def work(tx: AsyncConnection) -> int:
            due = await tx.execute(
                expired.order_by(FileRow.id).limit(_BATCH).with_for_update(skip_locked=True)
            )
            freed = await tx.execute(
                delete(FileRow)
                .where(FileRow.id.in_(list(due.scalars())), ~is_in_use())
                .returning(FileRow.storage_key)
            )
            keys = list(freed.scalars())
            await discard(tx, keys, due_at=at)
            return len(keys)

        return await self._database.transact(work) if await self._database.read(look) else 0

    async def prune(self) -> int:
        """Try to delete a batch of objects; return for how many the storage answered.

        What it does not delete is due again later, after everything else.
        """
        at = self._clock.now()
        due = await self._database.read(lambda connection: self._due(connection, at=at))
        if not due:
            return 0
        gone, kept = await self._try(due)

        async def note(tx: AsyncConnection) -> None:
            await tx.execute(delete(DiscardRow).where(DiscardRow.storage_key.in_(gone)))
            await tx.execute(
                update(DiscardRow)
                .where(DiscardRow.storage_key.in_(kept))
                .values(due_at=at + _RETRY_AFTER)
            )

        await self._database.transact(note)
        is_away = len(gone) + len(kept) < len(due)
        return len(gone) if is_away else len(due)

    async def _try(self, keys: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Delete objects; return those that are gone and those that the storage kept."""
        ends_at = self._clock.monotonic() + _GIVE_UP_AFTER.total_seconds()
        gone: list[str] = []
        kept: list[str] = []
        kind = ""
        for key in keys:
            try:
                await self._storage.delete(key)
                gone.append(key)
            except StorageUnavailableError as exc:
                kept.append(key)
                kind = type(exc.__cause__).__name__
                if self._clock.monotonic() >= ends_at:
                    break
        if kept:
            logger.warning("storage.failed", action="delete", kind=kind, objects=len(kept))
        return gone, kept

    async def _due(self, connection: AsyncConnection, *, at: datetime) -> Sequence[str]:
        due = await connection.execute(
            select(DiscardRow.storage_key)
            .where(DiscardRow.due_at <= at, DiscardRow.storage_key.startswith(self._storage.holds))
            .order_by(DiscardRow.due_at)
            .limit(_BATCH)
        )
        return list(due.scalars())
