"""The leased queue that archivers draw from: outputs that wait for their copy.

    (job completed, same transaction) --> waiting --copied--> archived
                                            |  ^ `---- gone upstream, again and again ----> gone
                                            `--' failed: later, with back-off

A row in `waiting` may be leased; the lease is renewed while the copy is made, and only its holder
writes the outcome. The job itself knows nothing of this, and waits for nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.ids import new_id
from app.db.engine import Database
from app.db.models import JobRow, OutputRow
from app.db.records import columns_of, record_of
from app.storage.store import new_key


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLease:
    """The right to copy one output; `output` is the job's, with upstream's own addresses."""

    job_id: str
    n: int
    key: str
    token: str
    attempts: int
    denials: int
    output: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    size: int
    sha256: str
    media_type: str
    duration: timedelta | None
    codec: str | None


async def enqueue(tx: AsyncConnection, outputs: Mapping[str, int], *, at: datetime) -> None:
    """Queue each job's outputs for copying, in the transaction that completes the jobs."""
    rows = [
        {
            "job_id": job_id,
            "n": n,
            "storage_key": new_key("outputs"),
            "state": "waiting",
            "attempts": 0,
            "due_at": at,
            "created_at": at,
        }
        for job_id, count in outputs.items()
        for n in range(count)
    ]
    if rows:
        await tx.execute(insert(OutputRow), rows)


async def free_leases(tx: AsyncConnection, *, at: datetime) -> None:
    """End every lease; only for a caller that knows that no other process holds one."""
    await tx.execute(
        update(OutputRow)
        .where(OutputRow.state == "waiting", OutputRow.lease_expires_at > at)
        .values(lease_expires_at=at)
    )


class CopyQueue:
    """`lease` is how long an archiver has an output to itself, unless it renews."""

    def __init__(self, *, database: Database, lease: timedelta, clock: Clock) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    async def claim(self, limit: int) -> Sequence[CopyLease]:
        """Take outputs that are due and not leased, the longest due first."""
        at = self._clock.now()

        async def peek(connection: AsyncConnection) -> bool:
            found = await connection.execute(select(OutputRow.n).where(_claimable(at)).limit(1))
            return found.first() is not None

        if not await self._database.look_up(peek):
            return []
        return await self._database.transact(lambda tx: self._claim(tx, limit, at=at))

    async def _claim(self, tx: AsyncConnection, limit: int, *, at: datetime) -> Sequence[CopyLease]:
        due = await tx.execute(
            select(OutputRow.job_id, OutputRow.n, JobRow.output)
            .join(JobRow, JobRow.id == OutputRow.job_id)
            .where(_claimable(at))
            .order_by(OutputRow.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=OutputRow)
        )
        outputs = {(row.job_id, row.n): row.output for row in due}
        if not outputs:
            return []
        token = new_id("copy")
        claimed = await tx.execute(
            update(OutputRow)
            .where(_is_any_of(outputs))
            .values(
                attempts=OutputRow.attempts + 1,
                lease_token=token,
                lease_expires_at=at + self._lease,
            )
            .returning(*columns_of(OutputRow, CopyLease), OutputRow.storage_key)
        )
        return [
            record_of(
                CopyLease, row, key=row.storage_key, token=token, output=outputs[row.job_id, row.n]
            )
            for row in claimed
        ]

    async def renew(self, lease: CopyLease) -> bool:
        """Renew the lease; False once another has it, or the job is deleted."""
        return await self._write(lease, lease_expires_at=self._clock.now() + self._lease)

    async def finish(self, lease: CopyLease, copy: Copy) -> bool:
        """Record a complete copy; False if it is no longer wanted."""
        duration = copy.duration
        return await self._write(
            lease,
            state="archived",
            due_at=None,
            reason=None,
            size=copy.size,
            sha256=copy.sha256,
            media_type=copy.media_type,
            duration_ms=None if duration is None else round(duration.total_seconds() * 1000),
            codec=copy.codec,
            archived_at=self._clock.now(),
            **_NO_LEASE,
        )

    async def postpone(
        self, lease: CopyLease, *, reason: str, wait: timedelta, denied: bool = False
    ) -> bool:
        return await self._write(
            lease,
            due_at=self._clock.now() + wait,
            reason=reason,
            denials=lease.denials + denied,
            **_NO_LEASE,
        )

    async def give_up(self, lease: CopyLease, *, reason: str) -> bool:
        return await self._write(lease, state="gone", due_at=None, reason=reason, **_NO_LEASE)

    async def _write(self, lease: CopyLease, **values: Any) -> bool:
        async def work(tx: AsyncConnection) -> bool:
            written = await tx.execute(
                update(OutputRow)
                .where(
                    OutputRow.job_id == lease.job_id,
                    OutputRow.n == lease.n,
                    OutputRow.lease_token == lease.token,
                )
                .values(**values)
                .returning(OutputRow.n)
            )
            return written.first() is not None

        return await self._database.transact(work)


_NO_LEASE: Mapping[str, Any] = {"lease_token": None, "lease_expires_at": None}


def _claimable(at: datetime) -> ColumnElement[bool]:
    free = or_(OutputRow.lease_expires_at.is_(None), OutputRow.lease_expires_at <= at)
    return and_(OutputRow.state == "waiting", OutputRow.due_at <= at, free)


def _is_any_of(taken: Iterable[tuple[str, int]]) -> ColumnElement[bool]:
    return or_(*(and_(OutputRow.job_id == job_id, OutputRow.n == n) for job_id, n in taken))
