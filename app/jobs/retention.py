"""Deletes what ended long ago, in small batches; the ledger and the audit log stay."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.db.engine import Database
from app.db.models import IdempotencyKeyRow, JobRow, OutputRow, ShadowFindingRow, WebhookDeliveryRow
from app.db.pruning import prune
from app.storage import discards
from app.storage.discards import Sweeper

# Another replica's clock may be behind, and take an expired key for a valid one.
_KEPT_AFTER = timedelta(hours=1)


class Retention:
    """Each method looks before it writes, so an idle gateway writes nothing.

    Unless it `archives` outputs, copies that still wait are never made, so no job is kept for them.
    """

    def __init__(
        self,
        *,
        database: Database,
        sweeper: Sweeper,
        life: timedelta,
        archives: bool,
        clock: Clock,
    ) -> None:
        self._database = database
        self._sweeper = sweeper
        self._life = life
        self._archives = archives
        self._clock = clock

    async def prune_jobs(self, *, limit: int = 100) -> int:
        """Delete jobs that ended longer ago than `life`, with events, deliveries and objects."""
        at = self._clock.now()
        old = is_disposable(before=at - self._life, archives=self._archives, at=at)
        return await self._delete_jobs(old, limit=limit)

    async def prune_erased(self, *, limit: int = 100) -> int:
        """Delete what was kept of erased jobs in case of a late success."""
        watched_out = and_(JobRow.erased_at.is_not(None), JobRow.watch_until.is_(None))
        return await self._delete_jobs(watched_out, limit=limit)

    async def _delete_jobs(self, old: ColumnElement[bool], *, limit: int) -> int:
        at = self._clock.now()

        async def look(connection: AsyncConnection) -> bool:
            found = await connection.execute(select(JobRow.id).where(old).limit(1))
            return found.first() is not None

        async def work(tx: AsyncConnection) -> tuple[int, Sequence[str]]:
            # Locked, then tested again: the locking statement sees no commit after its own start.
            locked = await tx.execute(
                select(JobRow.id)
                .where(old)
                .order_by(JobRow.finished_at)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            still = await tx.execute(
                select(JobRow.id).where(JobRow.id.in_(list(locked.scalars())), old)
            )
            jobs = list(still.scalars())
            outputs = await discards.output_keys(tx, jobs)
            await tx.execute(delete(JobRow).where(JobRow.id.in_(jobs)))
            return len(jobs), await discards.discard_jobs(tx, jobs, outputs=outputs, at=at)

        if not await self._database.read(look):
            return 0
        # With each job go dozens of rows: on SQLite in a thread, beside which the loop goes on.
        pruned, keys = await self._database.transact(work, is_long=True)
        await self._sweeper.delete(keys)
        return pruned

    async def prune_deliveries(self, *, limit: int = 500) -> int:
        """Delete ended deliveries older than `life`, even of jobs that are still here."""
        made_at = WebhookDeliveryRow.created_at
        old = and_(made_at < self._clock.now() - self._life, WebhookDeliveryRow.due_at.is_(None))
        return await prune(self._database, WebhookDeliveryRow, old=old, by=made_at, limit=limit)

    async def prune_findings(self, *, limit: int = 500) -> int:
        """Delete the findings of shadow limits on days longer ago than `life`."""
        # The id begins with the day and, unlike the day, is indexed.
        by_day = ShadowFindingRow.id
        before = (self._clock.now() - self._life).astimezone(UTC).date().isoformat()
        return await prune(
            self._database, ShadowFindingRow, old=by_day < before, by=by_day, limit=limit
        )

    async def prune_keys(self, *, limit: int = 500) -> int:
        """Delete idempotency keys that have expired, whatever became of their jobs."""
        end = IdempotencyKeyRow.expires_at
        old = end <= self._clock.now() - _KEPT_AFTER
        return await prune(self._database, IdempotencyKeyRow, old=old, by=end, limit=limit)


def is_disposable(*, before: datetime, archives: bool, at: datetime) -> ColumnElement[bool]:
    """The condition for jobs of that age that need no more work and can no longer be replayed."""
    to_tell = select(WebhookDeliveryRow.id).where(
        WebhookDeliveryRow.job_id == JobRow.id, WebhookDeliveryRow.due_at.is_not(None)
    )
    to_copy = select(OutputRow.n).where(OutputRow.job_id == JobRow.id, OutputRow.state == "waiting")
    # While a key is valid, a repeated request is answered with its job.
    to_repeat = select(IdempotencyKeyRow.key).where(
        IdempotencyKeyRow.job_id == JobRow.id, IdempotencyKeyRow.expires_at > at
    )
    left_to_do = (to_tell, to_repeat, to_copy) if archives else (to_tell, to_repeat)
    return and_(
        JobRow.finished_at <= before,  # only final jobs have it
        JobRow.watch_until.is_(None),
        *(~each.exists() for each in left_to_do),
    )
