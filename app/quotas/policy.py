"""Limits as plans state them, their units and their windows: pure functions of plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, assert_never
from zoneinfo import ZoneInfo

Mode = Literal["enforce", "shadow"]


class LimitName(StrEnum):
    SUBMITS_PER_MINUTE = "submits_per_minute"
    JOBS_PER_DAY = "jobs_per_day"
    JOBS_PER_MONTH = "jobs_per_month"
    OUTPUT_SECONDS_PER_DAY = "output_seconds_per_day"
    OUTPUT_SECONDS_PER_MONTH = "output_seconds_per_month"
    SPEND_USD_PER_DAY = "spend_usd_per_day"
    SPEND_USD_PER_MONTH = "spend_usd_per_month"
    CONCURRENT_JOBS = "concurrent_jobs"
    PENDING_JOBS = "pending_jobs"


class AllowanceName(StrEnum):
    """What a client token may use in its lifetime; plans and keys have no such limits."""

    MAX_JOBS = "max_jobs"
    MAX_COST_USD = "max_cost_usd"


class Period(StrEnum):
    DAY = "day"
    MONTH = "month"


class Measure(StrEnum):
    JOBS = "jobs"
    MILLISECONDS = "milliseconds"
    MICRO_USD = "micro_usd"


WINDOWED: Mapping[LimitName, tuple[Measure, Period]] = {
    LimitName.JOBS_PER_DAY: (Measure.JOBS, Period.DAY),
    LimitName.JOBS_PER_MONTH: (Measure.JOBS, Period.MONTH),
    LimitName.OUTPUT_SECONDS_PER_DAY: (Measure.MILLISECONDS, Period.DAY),
    LimitName.OUTPUT_SECONDS_PER_MONTH: (Measure.MILLISECONDS, Period.MONTH),
    LimitName.SPEND_USD_PER_DAY: (Measure.MICRO_USD, Period.DAY),
    LimitName.SPEND_USD_PER_MONTH: (Measure.MICRO_USD, Period.MONTH),
}

_UNITS: Mapping[Measure, int] = {
    Measure.JOBS: 1,
    Measure.MILLISECONDS: 1000,
    Measure.MICRO_USD: 1_000_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """`limit` is in the unit that the name implies: jobs, seconds or US dollars."""

    limit: Decimal
    mode: Mode = "enforce"


Limits = Mapping[LimitName, Limit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a client token may use in its lifetime; None means unlimited."""

    token_id: str
    max_jobs: int | None
    max_cost_usd: Decimal | None

    @property
    def is_bounded(self) -> bool:
        return self.max_jobs is not None or self.max_cost_usd is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which limits apply to a caller: those of the user and, often tighter, those of the key.

    A key's days and months are those of `key_zone`, its owner's plan's zone, whoever it acts for;
    if None, the user's. `allowance` is set if the caller is a client token, bounded or not.
    """

    zone: ZoneInfo
    user: Limits
    key: Limits
    key_zone: ZoneInfo | None = None
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one subject has used and holds of one measure in one window, in whole units."""

    used: int = 0
    held: int = 0


def to_units(measure: Measure, amount: Decimal) -> int:
    """Return an amount in whole units: milliseconds for seconds, micro-dollars for dollars."""
    return int(amount * _UNITS[measure])


def from_units(measure: Measure, units: int) -> Decimal:
    return Decimal(units) / _UNITS[measure]


def window(period: Period, *, zone: ZoneInfo, at: datetime) -> tuple[datetime, datetime]:
    """Return the calendar day or month around `at` in a zone, as UTC instants.

    A day on which the clocks change has 23 or 25 hours, since both ends are local midnights.
    """
    return _around(period, at.astimezone(zone).date(), zone)


@lru_cache(maxsize=1024)
def _around(period: Period, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    match period:
        case Period.DAY:
            first, following = day, day + timedelta(days=1)
        case Period.MONTH:
            first = day.replace(day=1)
            following = (first + timedelta(days=32)).replace(day=1)
        case _:
            assert_never(period)
    return midnight(first, zone), midnight(following, zone)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the instant in UTC at which a day begins in a zone."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def stored_limits(stored: Mapping[str, Any] | None) -> dict[LimitName, Limit]:
    """Read limits as the tables keep them: `{"<name>": {"limit": "10", "mode": "enforce"}}`."""
    return {
        LimitName(name): Limit(limit=Decimal(str(entry["limit"])), mode=entry["mode"])
        for name, entry in (stored or {}).items()
    }


def tightest(name: LimitName, *sources: Limits) -> Decimal | None:
    """Return the lowest enforced limit of that name, or None if there is none."""
    set_ones = [
        limits[name].limit
        for limits in sources
        if name in limits and limits[name].mode == "enforce"
    ]
    return min(set_ones, default=None)
