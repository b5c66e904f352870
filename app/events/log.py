"""Append to the log of jobs in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobEventRow


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """`seq` was taken under the job's row lock, so a job's events have no gap and no twin."""

    job_id: str
    seq: int
    type: str
    at: datetime
    data: dict[str, Any] | None = None


async def append(tx: AsyncConnection, events: Sequence[JobEvent]) -> None:
    if events:
        await tx.execute(insert(JobEventRow), [asdict(event) for event in events])


async def read(connection: AsyncConnection, job_id: str) -> Sequence[JobEvent]:
    """Give a job's events in their order."""
    found = await connection.execute(
        select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.seq)
    )
    return [
        JobEvent(job_id=row.job_id, seq=row.seq, type=row.type, at=row.at, data=row.data)
        for row in found
    ]
