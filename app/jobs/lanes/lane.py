"""A lane to upstream that all replicas share: when it closes, is probed, and opens again.

Pure functions: the repository reads a lane under its row lock, these decide, it writes it back.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from app.core import gcra


class Reason(StrEnum):
    RETRY_AFTER = "retry_after"  # upstream said when to come back
    UNAVAILABLE = "upstream_unavailable"
    TOKEN = "token_refused"  # noqa: S105 - the word for it
    BALANCE = "no_balance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """`changed_at` is when it last closed or opened: calls that began before say nothing new.

    `taken_us` is the latest time at which calls were let go, by any replica's clock.
    """

    arrival_us: int = 0
    taken_us: int = 0
    reason: Reason | None = None
    closed_until: datetime | None = None
    trips: int = 0
    changed_at: datetime | None = None

    def is_closed(self, at: datetime) -> bool:
        return self.closed_until is not None and at < self.closed_until

    def is_shut(self, at: datetime) -> bool:
        """Whether to report that nothing goes: waiting does not mend an account that is refused."""
        return self.reason in _ACCOUNT or self.is_closed(at)


_ACCOUNT = frozenset({Reason.TOKEN, Reason.BALANCE})
_LONGEST_PAUSE_S = 60
_ACCOUNT_PAUSE = timedelta(seconds=60)
_PROBE = timedelta(seconds=30)
_RAMP = timedelta(seconds=16)


def admit(
    lane: Lane, wanted: int, *, at: datetime, rate: int | None, probes: int = 1
) -> tuple[int, Lane]:
    """Return how many may go now, at most `rate` each second, and the lane after them.

    Only `probes` calls try a lane whose pause is over, and no others follow until those were
    answered or have had their time. After opening it is ramped up: twice as fast every two seconds.
    """
    if lane.is_closed(at):
        return 0, lane
    if lane.closed_until is not None:
        if lane.reason is not Reason.RETRY_AFTER:
            return min(wanted, probes), replace(lane, closed_until=at + _PROBE)
        lane = opened(lane, at=at)
    pace = _pace(lane, at=at, rate=rate)
    if pace is None:
        return wanted, lane
    # The burst is only a second's worth: by a clock further behind there would never be any room.
    now_us = gcra.shared_now(round(at.timestamp() * 1_000_000), seen_us=lane.taken_us)
    granted, arrival_us = gcra.take(
        wanted,
        arrival_us=lane.arrival_us,
        now_us=now_us,
        interval_us=-(-1_000_000 // pace),  # rounded up: never more than the rate
        burst=pace,
    )
    return granted, replace(lane, arrival_us=arrival_us, taken_us=now_us)


def opened(lane: Lane, *, at: datetime) -> Lane:
    return replace(lane, reason=None, closed_until=None, changed_at=at)


def forgiven(lane: Lane) -> Lane:
    """Open a lane as if it had never been closed; its rate still counts."""
    return Lane(arrival_us=lane.arrival_us, taken_us=lane.taken_us)


def tripped(lane: Lane, *, at: datetime) -> Lane:
    """Pause after failures: twice as long as before, unless it had been open for longer than that.

    A lane that closes while it is still being ramped up had not recovered.
    """
    is_new = lane.closed_until is None and (
        lane.changed_at is None or at - lane.changed_at >= max(_RAMP, _pause(lane.trips))
    )
    trips = 1 if is_new else lane.trips + 1
    return replace(
        lane,
        reason=lane.reason if lane.reason in _ACCOUNT else Reason.UNAVAILABLE,
        closed_until=at + _pause(trips),
        trips=min(trips, _LONGEST_PAUSE_S),
        changed_at=at,
    )


def refused(lane: Lane, *, reason: Reason, at: datetime) -> Lane:
    """Pause because the account is refused, and every other call would be."""
    return replace(lane, reason=reason, closed_until=at + _ACCOUNT_PAUSE, changed_at=at)


def told_to_wait(lane: Lane, *, wait: timedelta, at: datetime) -> Lane:
    until = at + wait
    if lane.closed_until is not None and lane.closed_until >= until:
        return lane
    return replace(
        lane, reason=lane.reason or Reason.RETRY_AFTER, closed_until=until, changed_at=at
    )


def slowed(lane: Lane, *, at: datetime) -> Lane:
    """Ramp up an open lane from the start again."""
    return lane if lane.closed_until is not None else replace(lane, changed_at=at)


def _pause(trips: int) -> timedelta:
    return timedelta(seconds=min(2**trips, _LONGEST_PAUSE_S))


def _pace(lane: Lane, *, at: datetime, rate: int | None) -> int | None:
    if lane.changed_at is None or not timedelta() <= at - lane.changed_at < _RAMP:
        return rate
    ramp: int = 2 ** (1 + int((at - lane.changed_at).total_seconds() // 2))
    return ramp if rate is None else min(ramp, rate)
