"""Where polls are placed along a curve, and what becomes of them when the budget is short."""

import math
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.timing.durations import EDGES, UNSEEN, Curve, Phase, bucket_of, learned
from app.jobs.timing.schedule import Pace, PollPlan, ScheduleConfig

CONFIG = ScheduleConfig()
FREE = ScheduleConfig(shortest=1e-3, longest=1e6)

counted = st.dictionaries(st.integers(0, len(EDGES) - 1), st.floats(1e-3, 1e6), max_size=20)


def plan(curve: Curve, config: ScheduleConfig = CONFIG) -> PollPlan:
    return PollPlan(curve, phase=Phase.RUN, config=config)


@given(
    counts=counted, phase=st.sampled_from(Phase), age=st.floats(0, 1e6), stretch=st.floats(1, 50)
)
def test_gaps_keep_to_the_shortest_and_the_longest(
    counts: dict[int, float], phase: Phase, age: float, stretch: float
) -> None:
    curve = learned(counts, before=UNSEEN[phase], worth=4)
    made = PollPlan(curve, phase=phase, config=CONFIG)
    slack = 1e-6 * (1 + age / 1e3)
    assert CONFIG.shortest - slack <= made.gap(age) <= CONFIG.longest + slack
    stretched = made.gap(age, stretch=stretch)
    assert made.gap(age) - slack <= stretched <= CONFIG.longest * stretch + slack


def _delay_and_polls(curve: Curve, rates: Sequence[float]) -> tuple[float, float]:
    """Add up what one job costs, bucket by bucket."""
    delay = polls = 0.0
    for rate, hazard, (start, end) in zip(rates, curve.hazards, pairwise(EDGES), strict=False):
        mass = curve.survival(start) - curve.survival(end)
        delay += mass / (2 * rate)
        polls += rate * mass / hazard
    return delay, polls


@given(
    price=st.floats(0.01, 2),
    seconds=st.floats(5, 200),
    changes=st.lists(st.floats(0.2, 5), min_size=len(EDGES), max_size=len(EDGES)),
)
def test_no_other_rates_cost_less_than_those_by_the_square_root(
    price: float, seconds: float, changes: list[float]
) -> None:
    curve = learned({bucket_of(seconds): 50}, before=UNSEEN[Phase.RUN], worth=4)
    rates = [math.sqrt(hazard / (2 * price)) for hazard in curve.hazards]
    delay, polls = _delay_and_polls(curve, rates)
    changed = [rate * change for rate, change in zip(rates, changes, strict=True)]
    other_delay, other_polls = _delay_and_polls(curve, changed)
    assert delay + price * polls <= other_delay + price * other_polls


@pytest.mark.parametrize("seconds", [20, 90])
def test_no_other_power_of_the_hazard_sees_ends_sooner_for_as_many_polls(seconds: float) -> None:
    curve = learned({bucket_of(seconds): 50}, before=UNSEEN[Phase.RUN], worth=4)

    def delay_for_ten_polls(power: float) -> float:
        delay, polls = _delay_and_polls(curve, [hazard**power for hazard in curve.hazards])
        return delay * polls / 10

    powers = [n / 20 for n in range(21)]
    assert min(powers, key=delay_for_ten_polls) == 0.5


def test_a_steady_hazard_gives_even_gaps() -> None:
    hazard = 0.01
    survivals = [math.exp(-hazard * edge) for edge in EDGES]
    masses = [a - b for a, b in pairwise(survivals)] + [survivals[-1]]
    made = plan(Curve([max(mass, 1e-300) for mass in masses]), FREE)
    even = math.sqrt(2 * FREE.price / hazard)
    for age in (0, 3.3, 50, 200):
        assert made.gap(age) == pytest.approx(even, rel=1e-3)


def test_polls_gather_where_jobs_end() -> None:
    made = plan(learned({bucket_of(100): 1000}, before=UNSEEN[Phase.RUN], worth=4))
    assert made.gap(20) > 8
    assert made.gap(100) < 3
    assert made.gap(80) < 15, "the rise that is near is seen coming"
    assert made.gap(600) > 5


def test_at_rest_every_gap_is_two_seconds_at_most() -> None:
    made = plan(learned({bucket_of(300): 1000}, before=UNSEEN[Phase.RUN], worth=4))
    pace = Pace(config=CONFIG, polls_per_second=50)
    assert made.gap(30) > 5
    pace.follow(50)
    assert pace.delay(made, 30, jitter=0.99) <= timedelta(seconds=2)
    pace.follow(200)
    assert timedelta(seconds=5) < pace.delay(made, 30, jitter=0.99) <= timedelta(seconds=8)
    pace.follow(100_000)
    assert pace.delay(made, 30, jitter=0.0) >= timedelta(seconds=7)


def test_a_shortage_stretches_all_gaps_and_passes() -> None:
    made = plan(UNSEEN[Phase.RUN])
    pace = Pace(config=CONFIG, polls_per_second=10)
    pace.follow(10_000)
    at_ease = pace.delay(made, 60, jitter=0.5)
    for _ in range(50):
        overdue = 2 * made.gap(60)
        pace.learn([pace.urgency(made, 60, overdue=overdue)] * 10)
    assert pace.stretch > 2
    assert pace.delay(made, 60, jitter=0.5) > 2 * at_ease
    for _ in range(100):
        pace.recover()
    assert pace.stretch == 1


def test_one_pile_after_an_outage_is_no_lasting_shortage() -> None:
    made = plan(UNSEEN[Phase.RUN])
    pace = Pace(config=CONFIG, polls_per_second=50)
    pace.learn([pace.urgency(made, 5, overdue=600)] * 50)
    assert pace.stretch <= 1.1


def test_who_is_polled_densely_is_the_more_urgent_of_two_that_are_equally_late() -> None:
    made = plan(learned({bucket_of(100): 1000}, before=UNSEEN[Phase.RUN], worth=4))
    pace = Pace(config=CONFIG, polls_per_second=50)
    assert pace.urgency(made, 100, overdue=2) > pace.urgency(made, 20, overdue=2)
    assert pace.urgency(made, 20, overdue=60) > pace.urgency(made, 100, overdue=2)
