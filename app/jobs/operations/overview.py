"""How all jobs are doing: where they are now, and how those of the last hours ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.db.engine import Database
from app.db.models import JobRow
from app.db.records import record_of
from app.jobs.state import UNFINISHED, JobState, Status

_HOUR = timedelta(hours=1)
_MILLISECOND = timedelta(milliseconds=1)
_ENDS = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Detection:
    """How long it took to notice here that jobs had ended at RunComfy."""

    mean: timedelta
    most: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """How many jobs were accepted in the hour from `since` on, and how many of them ended how."""

    since: datetime
    accepted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    detection: Detection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """`unfinished` has every status that is not final; `hours` has the oldest first."""

    at: datetime
    unfinished: Mapping[Status, int]
    hours: Sequence[Hour]


class JobOverview:
    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def read(self, *, hours: int) -> Overview:
        at = self._clock.now()
        this_hour = at.replace(minute=0, second=0, microsecond=0)
        starts = [this_hour - n * _HOUR for n in reversed(range(hours))]

        async def work(connection: AsyncConnection) -> Overview:
            return Overview(
                at=at,
                unfinished=await _count_unfinished(connection),
                hours=await _count_hours(connection, starts),
            )

        return await self._database.search(work)


async def _count_unfinished(connection: AsyncConnection) -> Mapping[Status, int]:
    counts: dict[Status, int] = {state.status: 0 for state in UNFINISHED}
    found = await connection.execute(
        select(JobRow.state, func.count())
        .where(JobRow.state.in_(UNFINISHED))
        .group_by(JobRow.state)
    )
    for state, count in found:
        counts[JobState(state).status] += count
    return counts


async def _count_hours(connection: AsyncConnection, starts: Sequence[datetime]) -> Sequence[Hour]:
    """Count in one pass over the span, since the two databases truncate times differently."""
    ends = enumerate(start + _HOUR for start in starts)
    hour = case(*((JobRow.created_at < end, n) for n, end in ends)).label("hour")
    found = await connection.execute(
        select(
            hour,
            func.count().label("accepted"),
            *(func.count().filter(JobRow.state == state).label(state.value) for state in _ENDS),
            func.avg(JobRow.detection_milliseconds).label("mean"),
            func.max(JobRow.detection_milliseconds).label("most"),
        )
        .where(JobRow.created_at >= starts[0])
        .group_by("hour")
    )
    rows = {row.hour: row for row in found}
    return [_hour(start, rows.get(n)) for n, start in enumerate(starts)]


def _hour(since: datetime, row: Any | None) -> Hour:
    if row is None:
        return Hour(since=since)
    return record_of(Hour, row, since=since, detection=_detection(row.mean, row.most))


def _detection(mean: float | Decimal | None, most: int | None) -> Detection | None:
    if mean is None or most is None:
        return None
    return Detection(mean=float(mean) * _MILLISECOND, most=most * _MILLISECOND)
