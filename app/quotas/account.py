"""What one user or key has used and holds in the current windows, and what a request adds.

Pure functions: the repository reads an account under its row lock, these decide, it writes it back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.core import gcra
from app.quotas.entries import EFFECTS, Amounts, Entry
from app.quotas.policy import (
    WINDOWED,
    AllowanceName,
    Limit,
    LimitName,
    Limits,
    Measure,
    Mode,
    Period,
    Tally,
    from_units,
    to_units,
    window,
)

_MINUTE_US = 60_000_000
_NOTHING = Tally()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    start: datetime
    tallies: Mapping[Measure, Tally] = field(default_factory=dict)

    def tally(self, measure: Measure) -> Tally:
        return self.tallies.get(measure, _NOTHING)

    def add(self, entry: Entry) -> "Window":
        effect = EFFECTS[entry.kind]
        tallies = dict(self.tallies)
        for measure, units in entry.amounts.items():
            had = self.tally(measure)
            tallies[measure] = Tally(
                used=had.used + units * effect.used, held=had.held + units * effect.held
            )
        return Window(start=self.start, tallies=tallies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    id: str
    arrival_us: int = 0
    windows: Mapping[Period, Window] = field(default_factory=dict)

    def add(self, entry: Entry) -> "Account":
        """Add an entry to those windows that its hold is in; ended windows are history."""
        windows = {
            period: kept.add(entry) if kept.start <= entry.held_at else kept
            for period, kept in self.windows.items()
        }
        return Account(id=self.id, arrival_us=self.arrival_us, windows=windows)

    def submitted(self, *, per_minute: int, at: datetime) -> "Account":
        _, arrival_us = _take(self.arrival_us, per_minute=per_minute, at=at)
        return Account(id=self.id, arrival_us=arrival_us, windows=self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one limit stands, in the limit's own unit."""

    name: LimitName | AllowanceName
    mode: Mode
    limit: Decimal
    used: Decimal
    held: Decimal
    resets_at: datetime | None

    @property
    def remaining(self) -> Decimal:
        return max(Decimal(0), self.limit - self.used - self.held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A limit that a request would exceed."""

    standing: Standing
    requested: Decimal


def user_account(user_id: str) -> str:
    return f"user:{user_id}"


def key_account(key_id: str) -> str:
    return f"key:{key_id}"


def excesses(
    account: Account,
    limits: Limits,
    amounts: Amounts,
    *,
    pending: int,
    zone: ZoneInfo,
    at: datetime,
) -> Iterator[Excess]:
    """Find the limits that one more job would exceed; `account` has the windows open at `at`."""
    for name, limit in limits.items():
        if _exceeds(account, name, limit, amounts, pending=pending, at=at):
            standing = standing_of(account, name, limit, pending=pending, zone=zone, at=at)
            yield Excess(standing=standing, requested=_requested(name, amounts))


def _exceeds(
    account: Account, name: LimitName, limit: Limit, amounts: Amounts, *, pending: int, at: datetime
) -> bool:
    """Whether one more job is too much, in whole units, without the cost of a standing."""
    if name in WINDOWED:
        measure, period = WINDOWED[name]
        tally = account.windows[period].tally(measure)
        wanted = tally.used + tally.held + amounts.get(measure, 0)
        return wanted > to_units(measure, limit.limit)
    if name is LimitName.SUBMITS_PER_MINUTE:
        free, _ = _take(account.arrival_us, per_minute=int(limit.limit), at=at)
        return not free
    if name is LimitName.PENDING_JOBS:
        return pending + 1 > limit.limit
    return False  # the limit on jobs in flight refuses nothing: it makes jobs wait


def standing_of(
    account: Account, name: LimitName, limit: Limit, *, pending: int, zone: ZoneInfo, at: datetime
) -> Standing:
    """Return how a limit stands; `pending` is the count for a limit on simultaneous jobs."""
    if name in WINDOWED:
        measure, period = WINDOWED[name]
        tally = account.windows[period].tally(measure)
        used, held = from_units(measure, tally.used), from_units(measure, tally.held)
        resets_at = window(period, zone=zone, at=at)[1]
    elif name is LimitName.SUBMITS_PER_MINUTE:
        per_minute = int(limit.limit)
        free, _ = _take(account.arrival_us, per_minute=per_minute, at=at, wanted=per_minute)
        used, held = limit.limit - free, Decimal(0)
        resets_at = _from_us(account.arrival_us) if used else at
    else:
        used, held, resets_at = Decimal(pending), Decimal(0), None
    return Standing(
        name=name, mode=limit.mode, limit=limit.limit, used=used, held=held, resets_at=resets_at
    )


def _requested(name: LimitName, amounts: Amounts) -> Decimal:
    if name not in WINDOWED:
        return Decimal(1)
    measure, _ = WINDOWED[name]
    return from_units(measure, amounts.get(measure, 0))


def _from_us(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def _take(arrival_us: int, *, per_minute: int, at: datetime, wanted: int = 1) -> tuple[int, int]:
    if not per_minute:
        return 0, arrival_us
    return gcra.take(
        wanted,
        arrival_us=arrival_us,
        now_us=round(at.timestamp() * 1_000_000),
        interval_us=_MINUTE_US // per_minute,
        burst=per_minute,
    )
