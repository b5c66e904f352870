"""Appends to the log of jobs in the caller's transaction, and reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Insert,
    Text,
    cast,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import tell_after_commit
from app.db.models import JobEventRow, JobRow
from app.db.prepared import made_once
from app.db.records import record_of
from app.db.rows import Rows, RowsStatement
from app.db.statements import table_of

CHANNEL = "gateway_job_events"
"""The channel on which Postgres says that there is something new, but not what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """`seq` was taken under the job's row lock: a job's numbers have no gaps or duplicates."""

    job_id: str
    seq: int
    type: str
    at: datetime
    data: dict[str, Any] | None = None


async def append(tx: AsyncConnection, events: Sequence[JobEvent]) -> None:
    """Write events; once they are committed, the log's readers on all replicas are woken."""
    if not events:
        return
    rows = [
        {
            "job_id": event.job_id,
            "seq": event.seq,
            "type": event.type,
            "at": event.at,
            "data": event.data,
        }
        for event in events
    ]
    await _ADD.execute(tx, rows)
    if tx.dialect.name == "sqlite":
        tell_after_commit(tx)


async def read(connection: AsyncConnection, job_id: str) -> Sequence[JobEvent]:
    """Return a job's events in order."""
    return (await read_many(connection, {job_id: 0})).get(job_id, [])


async def read_many(
    connection: AsyncConnection, after: Mapping[str, int]
) -> Mapping[str, Sequence[JobEvent]]:
    """Return each job's events after the number given for it."""
    found = await connection.execute(
        select(JobEventRow)
        .where(JobEventRow.job_id.in_(after), JobEventRow.seq > min(after.values()))
        .order_by(JobEventRow.job_id, JobEventRow.seq)
    )
    events: dict[str, list[JobEvent]] = {}
    for row in found:
        if row.seq > after[row.job_id]:
            events.setdefault(row.job_id, []).append(record_of(JobEvent, row))
    return events


def _add(new: CTE, *, xid: ColumnElement[int]) -> Insert:
    of_job = select(
        xid, new.c.job_id, new.c.seq, JobRow.user_id, new.c.type, new.c.at, new.c.data
    ).join(JobRow, JobRow.id == new.c.job_id)
    columns = ("xid", "job_id", "seq", "user_id", "type", "at", "data")
    return insert(_TABLE).from_select(columns, of_job)


_TABLE = table_of(JobEventRow)
_EVENTS = Rows(*(_TABLE.c[name] for name in ("job_id", "seq", "type", "at", "data")))
_XID = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
_ADD = RowsStatement(
    {
        "sqlite": made_once(_add(_EVENTS.on["sqlite"], xid=literal(0))),
        # The same statement sends the notice, which goes out with the commit, only once however
        # often the transaction sends it.
        "postgresql": made_once(
            select(func.pg_notify(CHANNEL, "")).add_cte(
                _add(_EVENTS.on["postgresql"], xid=_XID).cte("added")
            ),
            wants_rows=False,
        ),
    }
)
