"""What a request does to an account, and which limits it would exceed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.quotas.account import Account, Excess, Window, excesses, standing_of
from app.quotas.entries import Amounts, Entry, EntryKind, amounts_of
from app.quotas.policy import (
    WINDOWED,
    Limit,
    LimitName,
    Limits,
    Measure,
    Period,
    Tally,
    from_units,
    window,
)

ZONE = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 22, 11, tzinfo=UTC)
DAY = timedelta(days=1)
JOB = amounts_of(output_seconds=Decimal(5), price_usd=Decimal("0.50"))
HOLD, SETTLE, RELEASE, LATE_CHARGE = EntryKind


def account(*, at: datetime = NOON) -> Account:
    return Account(id="user:alice", windows=windows(at))


def entered(account: Account, *kinds: EntryKind, amounts: Amounts = JOB) -> Account:
    """Return the account after entries of a job that was accepted at noon."""
    for kind in kinds:
        entry = Entry(
            job_id="job_1",
            kind=kind,
            user_id="alice",
            key_id="key_1",
            model="a/b",
            at=NOON,
            held_at=NOON,
            amounts=amounts,
        )
        account = account.add(entry)
    return account


def windows(at: datetime) -> dict[Period, Window]:
    return {period: Window(start=window(period, zone=ZONE, at=at)[0]) for period in Period}


def limited(**limits: str | int) -> Limits:
    return {LimitName(name): Limit(limit=Decimal(limit)) for name, limit in limits.items()}


def exceeded(
    account: Account, limits: Limits, *, pending: int = 0, at: datetime = NOON
) -> list[Excess]:
    return list(excesses(account, limits, JOB, pending=pending, zone=ZONE, at=at))


def tallies(account: Account, measure: Measure) -> tuple[Tally, Tally]:
    return tuple(account.windows[period].tally(measure) for period in Period)  # type: ignore[return-value]


def test_a_hold_counts_in_day_and_month_until_it_is_settled() -> None:
    held = entered(account(), HOLD)
    assert tallies(held, Measure.MICRO_USD) == (Tally(held=500_000),) * 2
    assert tallies(held, Measure.MILLISECONDS) == (Tally(held=5000),) * 2
    assert tallies(entered(held, SETTLE), Measure.JOBS) == (Tally(used=1),) * 2
    assert tallies(entered(held, RELEASE), Measure.JOBS) == (Tally(),) * 2


def test_a_late_charge_is_used_without_a_hold() -> None:
    charged = entered(account(), HOLD, RELEASE, LATE_CHARGE)
    assert tallies(charged, Measure.MICRO_USD) == (Tally(used=500_000),) * 2


def test_what_was_held_yesterday_is_settled_yesterday_and_this_month() -> None:
    held = entered(account(), HOLD)
    day = windows(NOON + DAY)[Period.DAY]
    tomorrow = replace(held, windows={**held.windows, Period.DAY: day})
    assert tallies(tomorrow, Measure.JOBS) == (Tally(), Tally(held=1))
    assert tallies(entered(tomorrow, SETTLE), Measure.JOBS) == (Tally(), Tally(used=1))


def test_what_was_held_last_month_is_history() -> None:
    december = account(at=NOON + 10 * DAY)
    assert entered(december, SETTLE) == december


def test_an_unknown_amount_changes_only_what_is_known() -> None:
    unknown = amounts_of(output_seconds=None, price_usd=None)
    held = entered(account(), HOLD, amounts=unknown)
    assert tallies(held, Measure.JOBS) == (Tally(held=1),) * 2
    assert tallies(held, Measure.MICRO_USD) == (Tally(),) * 2


def test_a_limit_is_reached_by_used_and_held_together() -> None:
    limits = limited(jobs_per_day=2)
    one = entered(account(), HOLD, SETTLE)
    assert exceeded(one, limits) == []
    (excess,) = exceeded(entered(one, HOLD), limits)
    standing = excess.standing
    assert (standing.name, standing.limit, standing.used, standing.held) == (
        LimitName.JOBS_PER_DAY,
        2,
        1,
        1,
    )
    assert (standing.remaining, excess.requested) == (0, 1)
    assert standing.resets_at == datetime(2026, 11, 22, 23, tzinfo=UTC)


def test_money_and_seconds_may_be_used_up_to_the_last_bit() -> None:
    held = entered(account(), HOLD)
    enough = limited(spend_usd_per_month="1.00", output_seconds_per_day="10")
    assert exceeded(held, enough) == []
    short = limited(spend_usd_per_month="0.999999", output_seconds_per_day="9.999")
    names = [excess.standing.name for excess in exceeded(held, short)]
    assert names == [LimitName.SPEND_USD_PER_MONTH, LimitName.OUTPUT_SECONDS_PER_DAY]


def test_a_limit_of_zero_refuses_everything() -> None:
    limits = limited(jobs_per_day=0, submits_per_minute=0, pending_jobs=0)
    assert len(exceeded(account(), limits)) == 3


def test_a_lowered_limit_leaves_nothing_and_not_less() -> None:
    standing = exceeded(entered(account(), HOLD, HOLD), limited(jobs_per_day=1))[0].standing
    assert standing.remaining == 0


def test_concurrency_refuses_nothing() -> None:
    assert exceeded(account(), limited(concurrent_jobs=0)) == []


def test_pending_jobs_are_counted_from_outside() -> None:
    limits = limited(pending_jobs=3)
    assert exceeded(account(), limits, pending=2) == []
    (excess,) = exceeded(account(), limits, pending=3)
    assert (excess.standing.used, excess.standing.resets_at) == (3, None)


def test_submits_come_at_once_up_to_the_limit_and_then_evenly() -> None:
    limits = limited(submits_per_minute=4)
    submits, at = account(), NOON
    for _ in range(4):
        assert exceeded(submits, limits, at=at) == []
        submits = submits.submitted(per_minute=4, at=at)
    (excess,) = exceeded(submits, limits, at=at)
    assert (excess.standing.used, excess.standing.remaining) == (4, 0)
    assert excess.standing.resets_at == NOON + timedelta(minutes=1)
    assert len(exceeded(submits, limits, at=at + timedelta(seconds=14.9))) == 1
    at += timedelta(seconds=15)
    assert exceeded(submits, limits, at=at) == []
    submits = submits.submitted(per_minute=4, at=at)
    assert len(exceeded(submits, limits, at=at)) == 1


@given(
    gaps=st.lists(st.integers(min_value=0, max_value=30_000), min_size=1, max_size=60),
    per_minute=st.sampled_from([1, 2, 7, 10, 60, 1000]),
)
def test_no_span_admits_more_than_the_burst_and_its_refill(
    gaps: list[int], per_minute: int
) -> None:
    """Whatever the arrivals: in any span at most the limit, and what the span refills."""
    submits, at, admitted = account(), NOON, []
    limits = limited(submits_per_minute=per_minute)
    for gap in gaps:
        at += timedelta(milliseconds=gap)
        if not exceeded(submits, limits, at=at):
            submits = submits.submitted(per_minute=per_minute, at=at)
            admitted.append(at)
    interval_us = 60_000_000 // per_minute
    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            span_us = (admitted[last] - start) // timedelta(microseconds=1)
            assert last - first + 1 <= per_minute + span_us // interval_us


@pytest.mark.parametrize("name", list(LimitName))
def test_every_limit_stands_somewhere(name: LimitName) -> None:
    limit = Limit(limit=Decimal(5), mode="shadow")
    standing = standing_of(account(), name, limit, pending=2, zone=ZONE, at=NOON)
    waiting = name in (LimitName.PENDING_JOBS, LimitName.CONCURRENT_JOBS)
    assert (standing.mode, standing.used, standing.held) == ("shadow", 2 if waiting else 0, 0)
    assert standing.remaining == (3 if waiting else 5)
    assert (standing.resets_at is None) == waiting


@given(
    name=st.sampled_from([name for name in LimitName if name is not LimitName.CONCURRENT_JOBS]),
    limit=st.decimals(0, 30, places=7),
    jobs=st.integers(0, 12),
    submits=st.integers(0, 12),
)
def test_a_limit_refuses_what_would_go_past_where_it_stands(
    name: LimitName, limit: Decimal, jobs: int, submits: int
) -> None:
    """Refusals are decided in whole units, and standings told in the limit's own."""
    if name not in WINDOWED:
        limit = limit.to_integral_value()
    one = Limit(limit=limit)
    busy = account()
    for _ in range(jobs):
        busy = entered(busy, HOLD)
    for _ in range(submits):
        busy = busy.submitted(per_minute=30, at=NOON)
    standing = standing_of(busy, name, one, pending=jobs, zone=ZONE, at=NOON)
    asked = Decimal(1)
    if name in WINDOWED:
        measure, _ = WINDOWED[name]
        asked = from_units(measure, JOB[measure])
    is_too_much = standing.used + standing.held + asked > limit
    assert bool(exceeded(busy, {name: one}, pending=jobs)) == is_too_much
