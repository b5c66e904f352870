"""What was used, by day, model, user and key: the ledger added up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Label,
    Select,
    cast,
    extract,
    func,
    literal_column,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import LedgerRow
from app.quotas.errors import TooManySumsError
from app.quotas.policy import Measure, from_units
from app.quotas.repository import EntryKind

_MOST_SUMS = 300_000


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


@dataclass(slots=True)
class _Sums:
    holds: int = 0
    settles: int = 0
    releases: int = 0
    milliseconds_used: int = 0
    milliseconds_held: int = 0
    micro_usd_used: int = 0
    micro_usd_held: int = 0

    def add(self, other: "_Sums") -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


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
    """Add up the entries of the jobs accepted in a span, of one user or of all, in group order.

    Raise TooManySumsError if the database finds more than `most`, which all would wait for.
    """
    seconds = _SECONDS[connection.dialect.name]
    entries = _added_up(group_by, seconds, step=_step(since, until, zone)).where(
        LedgerRow.held_at >= since, LedgerRow.held_at < until
    )
    if user_id is not None:
        entries = entries.where(LedgerRow.user_id == user_id)
    found = list(await connection.execute(entries.limit(most + 1)))
    if len(found) > most:
        raise TooManySumsError(most)
    groups: dict[tuple[str, ...], _Sums] = {}
    for entry in found:
        group = tuple(
            _day(entry.day, zone) if grouping is Grouping.DAY else getattr(entry, grouping.value)
            for grouping in group_by
        )
        groups.setdefault(group, _Sums()).add(_counted(entry))
    return [
        Usage(
            groups=dict(zip(group_by, group, strict=True)),
            jobs=sums.holds,
            jobs_settled=sums.settles,
            jobs_released=sums.releases,
            output_seconds=from_units(Measure.MILLISECONDS, sums.milliseconds_used),
            output_seconds_held=from_units(Measure.MILLISECONDS, sums.milliseconds_held),
            spend_usd=from_units(Measure.MICRO_USD, sums.micro_usd_used),
            spend_usd_held=from_units(Measure.MICRO_USD, sums.micro_usd_held),
        )
        for group, sums in sorted(groups.items())
    ]


_SECONDS: Mapping[str, ColumnElement[Any]] = {
    # Cut off: SQLite rounds to milliseconds, and so the last instant of a day into the next one.
    "sqlite": extract("epoch", func.substr(LedgerRow.held_at, 1, len("2026-11-22 10:00:00"))),
    # Postgres extracts a decimal number, with which it reckons far more slowly than with a whole.
    "postgresql": cast(func.floor(func.date_part("epoch", LedgerRow.held_at)), BigInteger),
}


def _added_up(
    group_by: Sequence[Grouping], seconds: ColumnElement[Any], *, step: int
) -> Select[Any]:
    """Let the database add up: entries are many, and the loop that would go through them is one.

    It knows no days of zones, so it adds up by steps, none of which is of two days.
    """
    # Not as a parameter, which Postgres would take for another one in GROUP BY.
    begun = seconds - seconds % literal_column(str(step))
    columns: dict[Grouping, Any] = {
        Grouping.DAY: begun,
        Grouping.MODEL: LedgerRow.model,
        Grouping.KEY: LedgerRow.key_id,
        Grouping.USER: LedgerRow.user_id,
    }
    groups: list[Label[Any]] = [columns[grouping].label(grouping.value) for grouping in group_by]
    return select(
        LedgerRow.kind,
        *groups,
        func.count().label("entries"),
        func.sum(LedgerRow.milliseconds).label("milliseconds"),
        func.sum(LedgerRow.micro_usd).label("micro_usd"),
    ).group_by(LedgerRow.kind, *groups)


def _step(since: datetime, until: datetime, zone: ZoneInfo) -> int:
    """Give the most seconds at multiples of which all days of a span begin."""
    first, last = since.astimezone(zone).date(), until.astimezone(zone).date()
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return math.gcd(*(int(datetime.combine(day, time(), zone).timestamp()) for day in days))


def _day(begun: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(begun, UTC).astimezone(zone).date().isoformat()


def _counted(entry: Any) -> _Sums:
    milliseconds, micro_usd = int(entry.milliseconds or 0), int(entry.micro_usd or 0)
    match EntryKind(entry.kind):
        case EntryKind.HOLD:
            return _Sums(
                holds=entry.entries, milliseconds_held=milliseconds, micro_usd_held=micro_usd
            )
        case EntryKind.SETTLE:
            return _Sums(
                settles=entry.entries,
                milliseconds_used=milliseconds,
                milliseconds_held=-milliseconds,
                micro_usd_used=micro_usd,
                micro_usd_held=-micro_usd,
            )
        case EntryKind.RELEASE:
            return _Sums(
                releases=entry.entries, milliseconds_held=-milliseconds, micro_usd_held=-micro_usd
            )
        case EntryKind.LATE_CHARGE:
            return _Sums(milliseconds_used=milliseconds, micro_usd_used=micro_usd)
