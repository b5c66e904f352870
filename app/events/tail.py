"""Reads the log of all jobs on from a cursor, skipping nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    Text,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobEventRow
from app.db.records import record_of
from app.db.users import is_of
from app.events.cursor import Cursor, Snapshot


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in the log of all jobs; `cursor` is the place right after it."""

    cursor: Cursor
    xid: int
    number: int
    job_id: str
    seq: int
    user_id: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """`end` is the place after all that was read; if the page `is_full`, there may be more."""

    entries: Sequence[Entry]
    end: Cursor
    is_full: bool


@dataclass(frozen=True, slots=True)
class Whose:
    """One user's events and, `with_theirs`, those of the users that this user acts for."""

    user_id: str
    with_theirs: bool = False


async def end_of_log(connection: AsyncConnection) -> Cursor:
    """Return the place after everything that is committed by now."""
    if connection.dialect.name == "sqlite":
        last = await connection.execute(select(func.coalesce(func.max(JobEventRow.id), 0)))
        return Cursor.by_number(last.scalar_one())
    now = (await connection.execute(select(_snapshot))).scalar_one()
    return Cursor(Snapshot.of_postgres(now))


async def read_on(
    connection: AsyncConnection, after: Cursor, *, whose: Whose | None = None, limit: int
) -> Page:
    """Return what is committed and comes after `after`; each job's events are in order.

    Numbers are taken while the job's row is locked, so they keep a job's order. Transaction ids do
    not: a transaction that began early may have waited for the lock.
    """
    if connection.dialect.name == "sqlite":
        rows = (await connection.execute(_unseen(after, whose).limit(limit))).all()
        entries = [_entry(row, Cursor.by_number(row.id)) for row in rows]
        end = entries[-1].cursor if entries else after
        return Page(entries, end, is_full=len(rows) == limit)
    # The snapshot is taken in the same statement, so that it is of the same instant as the rows.
    # No row of this cluster is beyond its snapshot; one restored from another cluster may be.
    below = cast(cast(func.pg_snapshot_xmax(func.pg_current_snapshot()), Text), BigInteger)
    unseen = _unseen(after, whose).where(JobEventRow.xid < below)
    found = unseen.limit(limit).cte("found")
    now = select(_snapshot).cte("now")
    answer = await connection.execute(
        select(now.c.snapshot, found)
        .select_from(now.outerjoin(found, literal(value=True)))
        .order_by(found.c.id)
    )
    rows = answer.all()
    within = after.within or Snapshot.of_postgres(rows[0].snapshot)
    rows = [row for row in rows if row.id is not None]
    entries = [_entry(row, Cursor(after.seen, within, row.id)) for row in rows]
    if len(rows) == limit:
        return Page(entries, entries[-1].cursor, is_full=True)
    end = Cursor(within)
    if entries:
        entries[-1] = replace(entries[-1], cursor=end)
    return Page(entries, end, is_full=after.within is not None)


def _unseen(after: Cursor, whose: Whose | None) -> Select[Any]:
    row = JobEventRow
    unseen = select(*_ENTRY).where(
        row.xid >= after.seen.lowest_unseen,
        or_(row.xid >= after.seen.xmax, row.xid.in_(after.seen.running)),
    )
    if after.within is not None:
        unseen = unseen.where(
            row.xid < after.within.xmax, row.xid.not_in(after.within.running), row.id > after.upto
        )
    if whose is not None:
        mine = row.user_id == whose.user_id
        unseen = unseen.where(is_of(row.user_id, whose.user_id) if whose.with_theirs else mine)
    # `+ 0` makes Postgres search by transaction, and not walk all numbers until enough fit; but not
    # between the pages of what is too much for one, where it would sort all of it for each page.
    return unseen.order_by(row.id + 0 if after.within is None else row.id)


_ENTRY: tuple[ColumnElement[Any], ...] = tuple(
    JobEventRow.__table__.c[name]
    for name in ("id", "xid", "job_id", "seq", "user_id", "type", "at")
)
_snapshot = cast(func.pg_current_snapshot(), Text).label("snapshot")


def _entry(row: Row[Any], cursor: Cursor) -> Entry:
    return record_of(Entry, row, cursor=cursor, number=row.id)
