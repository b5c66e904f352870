"""Append to the log of jobs in the caller's transaction, and read what is in it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import tell_after_commit
from app.db.models import JobEventRow, JobRow

CHANNEL = "gateway_job_events"
"""Where Postgres says that there is something new; a hint without contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """`seq` was taken under the job's row lock, so a job's events have no gap and no twin."""

    job_id: str
    seq: int
    type: str
    at: datetime
    data: dict[str, Any] | None = None


async def append(tx: AsyncConnection, events: Sequence[JobEvent]) -> None:
    """Write events, and wake who follows the log once they are committed, on any replica."""
    if not events:
        return
    if tx.dialect.name == "sqlite":
        await tx.execute(_ON_SQLITE, [asdict(event) | {"of": event.job_id} for event in events])
        tell_after_commit(tx)
        return
    columns = {
        "job_ids": [event.job_id for event in events],
        "seqs": [event.seq for event in events],
        "types": [event.type for event in events],
        "ats": [event.at for event in events],
        "datas": [None if event.data is None else json.dumps(event.data) for event in events],
    }
    await tx.execute(_ON_POSTGRES, columns)


async def read(connection: AsyncConnection, job_id: str) -> Sequence[JobEvent]:
    """Give a job's events in their order."""
    return (await read_many(connection, {job_id: 0})).get(job_id, [])


async def read_many(
    connection: AsyncConnection, after: Mapping[str, int]
) -> Mapping[str, Sequence[JobEvent]]:
    """Give the events of each job that come after the number named for it."""
    found = await connection.execute(
        select(JobEventRow)
        .where(JobEventRow.job_id.in_(after), JobEventRow.seq > min(after.values()))
        .order_by(JobEventRow.job_id, JobEventRow.seq)
    )
    events: dict[str, list[JobEvent]] = {}
    for row in found:
        if row.seq > after[row.job_id]:
            event = JobEvent(
                job_id=row.job_id, seq=row.seq, type=row.type, at=row.at, data=row.data
            )
            events.setdefault(row.job_id, []).append(event)
    return events


_ON_SQLITE = insert(JobEventRow).values(
    xid=literal(0),
    user_id=select(JobRow.user_id).where(JobRow.id == bindparam("of")).scalar_subquery(),
)

# One statement whatever the number of events, the notice included; it goes out with the commit,
# and once however often a transaction says it.
_ON_POSTGRES = text(
    f"""
    WITH added AS (
        INSERT INTO job_events (xid, job_id, seq, user_id, type, at, data)
        SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint),
               new.job_id, new.seq, jobs.user_id, new.type, new.at, CAST(new.data AS json)
        FROM unnest(
                 CAST(:job_ids AS text[]), CAST(:seqs AS bigint[]), CAST(:types AS text[]),
                 CAST(:ats AS timestamptz[]), CAST(:datas AS text[])
             ) AS new (job_id, seq, type, at, data)
        JOIN jobs ON jobs.id = new.job_id
    )
    SELECT pg_notify('{CHANNEL}', '')
    """  # noqa: S608 - a constant
)
