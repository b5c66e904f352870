"""What was used, by day, model, user and key: the ledger added up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Label,
    Select,
    case,
    cast,
    extract,
    func,
    literal,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import LedgerRow
from app.quotas.entries import EntryKind
from app.quotas.errors import TooManySumsError
from app.quotas.policy import Measure, from_units, midnight
from app.quotas.windows import HELD, USED

_MOST_SUMS = 150_000


class Grouping(StrEnum):
    DAY = "day"
    MODEL = "model"
    KEY = "key"
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One group's sums; `groups` gives each grouping's value, days as local dates.

    `jobs` counts what was accepted; a job is held until it is settled or released.
    """

    groups: dict[Grouping, str]
    jobs: int
    jobs_settled: int
    jobs_released: int
    output_seconds: Decimal
    output_seconds_held: Decimal
    spend_usd: Decimal
    spend_usd_held: Decimal


async def usage(
    connection: AsyncConnection,
    *,
    since: datetime,
    until: datetime,
    zone: ZoneInfo,
    group_by: Sequence[Grouping],
    user_id: str | None,
    most: int = _MOST_SUMS,
) -> Sequence[Usage]:
    """Add up the entries of the jobs accepted in a span, of one user or of all, sorted by group.

    Raise TooManySumsError if there are more than `most` groups, for which all would wait.
    """
    days = _days(since, until, zone)
    seconds = _SECONDS[connection.dialect.name]
    sums = _added_up(group_by, _number_of_day(seconds, days)).where(
        LedgerRow.held_at >= since, LedgerRow.held_at < until
    )
    if user_id is not None:
        sums = sums.where(LedgerRow.user_id == user_id)
    found = list(await connection.execute(sums.limit(most + 1)))
    if len(found) > most:
        raise TooManySumsError(most)
    groups = {
        tuple(
            days[row.day].name if grouping is Grouping.DAY else getattr(row, grouping.value)
            for grouping in group_by
        ): row
        for row in found
    }
    return [
        Usage(
            groups=dict(zip(group_by, group, strict=True)),
            jobs=row.jobs,
            jobs_settled=row.jobs_settled,
            jobs_released=row.jobs_released,
            output_seconds=_amount(Measure.MILLISECONDS, row.milliseconds_used),
            output_seconds_held=_amount(Measure.MILLISECONDS, row.milliseconds_held),
            spend_usd=_amount(Measure.MICRO_USD, row.micro_usd_used),
            spend_usd_held=_amount(Measure.MICRO_USD, row.micro_usd_held),
        )
        for group, row in sorted(groups.items())
    ]


def _amount(measure: Measure, units: Decimal | int | None) -> Decimal:
    return from_units(measure, int(units or 0))


_SECONDS: Mapping[str, ColumnElement[Any]] = {
    # Truncated: SQLite rounds to milliseconds, which would push a day's last instant into the next.
    "sqlite": extract("epoch", func.substr(LedgerRow.held_at, 1, len("2026-11-22 10:00:00"))),
    # A whole number, with which Postgres computes far faster than with the decimal of EXTRACT.
    "postgresql": cast(func.floor(func.date_part("epoch", LedgerRow.held_at)), BigInteger),
}


@dataclass(frozen=True, slots=True)
class _Day:
    """A day of a zone; it begins and ends at whole seconds since the epoch."""

    name: str
    begins: int
    ends: int

    @property
    def length(self) -> int:
        return self.ends - self.begins


def _days(since: datetime, until: datetime, zone: ZoneInfo) -> Sequence[_Day]:
    """Return the days of a span, without one that a zone has skipped to cross the date line."""
    first, last = since.astimezone(zone).date(), until.astimezone(zone).date()
    dates = [first + timedelta(days=n) for n in range((last - first).days + 2)]
    begun = [(each, _begins(each, zone)) for each in dates]
    return [
        _Day(day.isoformat(), begins, ends)
        for (day, begins), (_, ends) in pairwise(begun)
        if begins < ends
    ]


def _begins(day: date, zone: ZoneInfo) -> int:
    return int(midnight(day, zone).timestamp())


def _number_of_day(seconds: ColumnElement[int], days: Sequence[_Day]) -> ColumnElement[int]:
    """Say which of the days an entry belongs to.

    The database does not know the days of time zones. They are equally long but for those on which
    clocks change, so it is told where each row of equally long ones begins.
    """
    rows = [0, *(n for n in range(1, len(days)) if days[n].length != days[n - 1].length)]
    numbers = [
        _number(first) + (seconds - _number(days[first].begins)) // _number(days[first].length)
        for first in rows
    ]
    ends = [datetime.fromtimestamp(days[first].begins, UTC) for first in rows[1:]]
    earlier = [
        (LedgerRow.held_at < end, number) for end, number in zip(ends, numbers, strict=False)
    ]
    return case(*earlier, else_=numbers[-1]) if earlier else numbers[-1]


def _number(number: int) -> ColumnElement[int]:
    return literal(number, BigInteger)


def _added_up(group_by: Sequence[Grouping], day: ColumnElement[int]) -> Select[Any]:
    """Let the database add up: entries are many, and reading them all would hold up the event loop.

    Were it by hours or by kinds, there would still be enough of them to hold it up for a second.
    """
    columns: dict[Grouping, Any] = {
        Grouping.DAY: day,
        Grouping.MODEL: LedgerRow.model,
        Grouping.KEY: LedgerRow.key_id,
        Grouping.USER: LedgerRow.user_id,
    }
    groups: list[Label[Any]] = [columns[grouping].label(grouping.value) for grouping in group_by]
    counts = {
        "jobs": EntryKind.HOLD,
        "jobs_settled": EntryKind.SETTLE,
        "jobs_released": EntryKind.RELEASE,
    }
    return (
        select(
            *groups,
            *(
                func.count().filter(LedgerRow.kind == kind).label(name)
                for name, kind in counts.items()
            ),
            *(
                func.sum(sign * amount).label(f"{measure.value}_{sort}")
                for measure, amount in _AMOUNTS.items()
                for sort, sign in (("used", USED), ("held", HELD))
            ),
        )
        # By name: Postgres would not see that an expression with parameters is the same again.
        .group_by(*(group.name for group in groups))
        .having(func.count() > 0)  # without groups there would be a sum of nothing, too
    )


_AMOUNTS = {
    Measure.MILLISECONDS: LedgerRow.milliseconds,
    Measure.MICRO_USD: LedgerRow.micro_usd,
}
