"""Delays and rates, which are plain arithmetic."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import gcra
from app.jobs.timing.schedule import retry_delay

SECOND_US = 1_000_000


@pytest.mark.parametrize(("attempt", "delay"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (99, 60)])
def test_submits_are_repeated_ever_more_rarely(attempt: int, delay: float) -> None:
    assert retry_delay(attempt, jitter=0.5) == timedelta(seconds=delay)
    assert retry_delay(attempt, jitter=0) == timedelta(seconds=delay) / 2


def test_a_rate_grants_its_burst_and_then_what_is_earned() -> None:
    granted, arrival = gcra.take(15, arrival_us=0, now_us=SECOND_US, interval_us=100_000, burst=10)
    assert granted == 10
    granted, arrival = gcra.take(
        15, arrival_us=arrival, now_us=SECOND_US + 250_000, interval_us=100_000, burst=10
    )
    assert granted == 2


def test_a_clock_that_steps_back_grants_nothing_for_as_long() -> None:
    _, arrival = gcra.take(10, arrival_us=0, now_us=10 * SECOND_US, interval_us=100_000, burst=10)
    for back in (9 * SECOND_US, 0):
        taken = gcra.take(1, arrival_us=arrival, now_us=back, interval_us=100_000, burst=10)
        assert taken == (0, arrival)


def test_a_clock_that_was_hours_ahead_keeps_nobody_waiting_for_hours() -> None:
    ahead, hours = 10 * SECOND_US, 8 * 3600 * SECOND_US
    _, arrival = gcra.take(10, arrival_us=0, now_us=ahead, interval_us=100_000, burst=10)
    granted, arrival = gcra.take(
        15, arrival_us=arrival, now_us=ahead - hours, interval_us=100_000, burst=10
    )
    assert (granted, arrival) == (10, ahead - hours + SECOND_US)


@given(
    calls=st.lists(st.tuples(st.integers(0, 3 * SECOND_US), st.integers(0, 40)), max_size=60),
    rate=st.integers(1, 100_000),
)
def test_no_window_ever_holds_more_than_burst_and_rate(
    calls: list[tuple[int, int]], rate: int
) -> None:
    interval = -(-SECOND_US // rate)
    now, arrival, total = 10**12, 0, 0
    start = now
    for gap, wanted in calls:
        now += gap
        granted, arrival = gcra.take(
            wanted, arrival_us=arrival, now_us=now, interval_us=interval, burst=rate
        )
        assert 0 <= granted <= wanted
        total += granted
        assert total <= rate + (now - start) * rate / SECOND_US
