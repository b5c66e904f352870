"""Windows of the calendar, and amounts in whole units."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.quotas.policy import (
    Limit,
    LimitName,
    Measure,
    Period,
    from_units,
    stored_limits,
    tightest,
    to_units,
    window,
)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Santiago",
    "America/Havana",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Asia/Beirut",
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def span(period: Period, zone: str, moment: str) -> tuple[str, str]:
    start, end = window(period, zone=ZoneInfo(zone), at=at(moment))
    return start.strftime("%Y-%m-%dT%H:%MZ"), end.strftime("%Y-%m-%dT%H:%MZ")


@pytest.mark.parametrize(
    ("zone", "moment", "start", "end"),
    [
        ("UTC", "2026-11-22T10:00Z", "2026-11-22T00:00Z", "2026-11-23T00:00Z"),
        ("UTC", "2026-11-22T00:00Z", "2026-11-22T00:00Z", "2026-11-23T00:00Z"),
        # 45 minutes off the hour
        ("Asia/Kathmandu", "2026-11-22T18:14Z", "2026-11-21T18:15Z", "2026-11-22T18:15Z"),
        ("Asia/Kathmandu", "2026-11-22T18:15Z", "2026-11-22T18:15Z", "2026-11-23T18:15Z"),
        # From here on in the past, which no later list of time zones changes.
        # 23 and 25 hours: clocks change at two in the morning
        ("Europe/Berlin", "2025-03-30T12:00Z", "2025-03-29T23:00Z", "2025-03-30T22:00Z"),
        ("Europe/Berlin", "2025-10-26T00:30Z", "2025-10-25T22:00Z", "2025-10-26T23:00Z"),
        ("Europe/Berlin", "2025-10-26T01:30Z", "2025-10-25T22:00Z", "2025-10-26T23:00Z"),
        # a midnight that does not exist: the day begins at one
        ("America/Santiago", "2025-09-07T12:00Z", "2025-09-07T04:00Z", "2025-09-08T03:00Z"),
        ("America/Santiago", "2025-09-07T03:59Z", "2025-09-06T04:00Z", "2025-09-07T04:00Z"),
        # an hour before midnight that comes twice: one day of 25 hours
        ("America/Santiago", "2025-04-06T03:30Z", "2025-04-05T03:00Z", "2025-04-06T04:00Z"),
        ("America/Santiago", "2025-04-06T04:00Z", "2025-04-06T04:00Z", "2025-04-07T04:00Z"),
        # a midnight that comes twice: the day begins at the first
        ("America/Havana", "2025-11-02T04:30Z", "2025-11-02T04:00Z", "2025-11-03T05:00Z"),
        ("America/Havana", "2025-11-02T05:30Z", "2025-11-02T04:00Z", "2025-11-03T05:00Z"),
    ],
)
def test_a_day_is_between_local_midnights(zone: str, moment: str, start: str, end: str) -> None:
    assert span(Period.DAY, zone, moment) == (start, end)


@pytest.mark.parametrize(
    ("zone", "moment", "start", "end"),
    [
        ("UTC", "2026-02-28T23:59Z", "2026-02-01T00:00Z", "2026-03-01T00:00Z"),
        ("UTC", "2028-02-29T12:00Z", "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
        ("UTC", "2026-12-31T23:59Z", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("UTC", "2026-01-31T12:00Z", "2026-01-01T00:00Z", "2026-02-01T00:00Z"),
        ("Pacific/Kiritimati", "2026-12-31T10:00Z", "2026-12-31T10:00Z", "2027-01-31T10:00Z"),
        ("Europe/Berlin", "2026-03-15T12:00Z", "2026-02-28T23:00Z", "2026-03-31T22:00Z"),
    ],
)
def test_a_month_is_between_local_firsts(zone: str, moment: str, start: str, end: str) -> None:
    assert span(Period.MONTH, zone, moment) == (start, end)


@given(
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    zone=st.sampled_from(ZONES),
    period=st.sampled_from(list(Period)),
)
def test_windows_hold_their_moment_and_follow_each_other(
    moment: datetime, zone: str, period: Period
) -> None:
    start, end = window(period, zone=ZoneInfo(zone), at=moment)
    assert start <= moment < end
    assert window(period, zone=ZoneInfo(zone), at=start) == (start, end)
    following, _ = window(period, zone=ZoneInfo(zone), at=end)
    assert following == end
    assert window(period, zone=ZoneInfo(zone), at=end - timedelta(microseconds=1))[0] == start


@pytest.mark.parametrize(
    ("measure", "amount", "units"),
    [
        (Measure.JOBS, "1", 1),
        (Measure.MILLISECONDS, "7.5", 7500),
        (Measure.MICRO_USD, "0.000001", 1),
        (Measure.MICRO_USD, "1000000", 1_000_000_000_000),
    ],
)
def test_amounts_are_kept_in_whole_units(measure: Measure, amount: str, units: int) -> None:
    assert to_units(measure, Decimal(amount)) == units
    assert from_units(measure, units) == Decimal(amount)


def test_stored_limits_are_read_back() -> None:
    assert stored_limits(None) == {}
    stored = {"spend_usd_per_day": {"limit": "2.50", "mode": "shadow"}}
    assert stored_limits(stored) == {
        LimitName.SPEND_USD_PER_DAY: Limit(limit=Decimal("2.50"), mode="shadow")
    }


def test_the_tightest_enforced_limit_counts() -> None:
    name = LimitName.CONCURRENT_JOBS
    loose, tight = {name: Limit(limit=Decimal(5))}, {name: Limit(limit=Decimal(2))}
    shadow = {name: Limit(limit=Decimal(1), mode="shadow")}
    assert tightest(name, loose, tight, shadow) == 2
    assert tightest(name, shadow, {}) is None
