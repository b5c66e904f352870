"""The survival curve: what counts turn into, and what is read off it."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.timing.durations import (
    EDGES,
    UNSEEN,
    Counts,
    Curve,
    Kind,
    Phase,
    bucket_of,
    input_class,
    learned,
    weight_at,
)
from app.jobs.timing.forecast import Durations
from app.jobs.timing.schedule import ScheduleConfig

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)

counted = st.dictionaries(st.integers(0, len(EDGES) - 1), st.floats(1e-9, 1e9), max_size=20)
phases = st.sampled_from(Phase)
elapsed = st.floats(0, 1e7)


def seen(seconds: float, times: float) -> Counts:
    return {bucket_of(seconds): times}


def of_run(counts: Counts) -> Curve:
    return learned(counts, before=UNSEEN[Phase.RUN], worth=4)


@given(counts=counted, phase=phases, times=st.lists(elapsed, min_size=2, max_size=20))
def test_survival_falls_from_one_and_never_to_nothing(
    counts: Counts, phase: Phase, times: list[float]
) -> None:
    curve = learned(counts, before=UNSEEN[phase], worth=4)
    assert curve.survival(0) == 1
    chances = [curve.survival(time) for time in sorted(times)]
    assert all(after <= before for before, after in pairwise(chances))
    assert all(0 < hazard < math.inf for hazard in curve.hazards)


@given(counts=counted, phase=phases, age=elapsed)
def test_what_remains_is_finite_and_halves_who_is_left(
    counts: Counts, phase: Phase, age: float
) -> None:
    curve = learned(counts, before=UNSEEN[phase], worth=4)
    remaining = curve.remaining(age)
    assert 0 <= remaining < math.inf
    half = curve.survival(age) / 2
    assert curve.survival(age + remaining) == pytest.approx(half, rel=1e-3, abs=1e-300)


def test_before_anything_was_seen_a_job_takes_as_long_again_as_it_has() -> None:
    curve = UNSEEN[Phase.RUN]
    assert curve.remaining(0) == pytest.approx(45, rel=0.05)
    assert 0.3 < curve.remaining(600) / 600 < 1


def test_what_was_seen_outweighs_what_was_believed() -> None:
    few, many = of_run(seen(120, 3)), of_run(seen(120, 300))
    assert 45 < few.remaining(0) < 120
    assert many.remaining(0) == pytest.approx(120, rel=0.05)
    assert many.remaining(115) < 15
    assert many.survival(60) > 0.95
    assert many.survival(240) < 0.02


def test_two_humps_are_both_remembered() -> None:
    curve = of_run(dict(seen(10, 500)) | dict(seen(100, 500)))
    assert curve.survival(30) == pytest.approx(0.5, abs=0.02)
    assert curve.remaining(30) == pytest.approx(70, rel=0.1)


@given(seconds=st.floats(0, 1e7))
def test_a_duration_lies_in_its_bucket(seconds: float) -> None:
    bucket = bucket_of(seconds)
    assert EDGES[bucket] <= seconds
    assert bucket == len(EDGES) - 1 or seconds < EDGES[bucket + 1]


def test_old_observations_fade_by_a_half_each_week() -> None:
    assert weight_at(AT + timedelta(days=7)) / weight_at(AT) == pytest.approx(2)


@pytest.mark.parametrize("year", [1970, 2045, 9999])
def test_no_year_is_so_far_that_its_weights_cannot_be_added_and_compared(year: int) -> None:
    weight = weight_at(AT.replace(year=year))
    assert 1e9 * weight / weight == 1e9


def test_a_kind_without_data_is_expected_to_be_like_its_models_others() -> None:
    durations = Durations(config=ScheduleConfig())
    fast, slow = (Kind(Phase.RUN, "m/x", name) for name in ("5s 480p", "10s 1080p"))
    durations.put(fast, bucket_of(20), 50 * weight_at(AT))
    durations.rebuild(at=AT)
    assert durations.curve(slow).remaining(0) == pytest.approx(20, rel=0.15)
    assert durations.curve(Kind(Phase.RUN, "m/other", "")).remaining(0) > 40
    durations.put(slow, bucket_of(90), 50 * weight_at(AT))
    durations.rebuild(at=AT)
    assert durations.curve(slow).remaining(0) == pytest.approx(90, rel=0.1)
    assert durations.curve(fast).remaining(0) == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize(
    ("given", "seconds", "name"),
    [
        ({}, None, ""),
        ({"resolution": "1080P"}, Decimal(5), "5s 1080p"),
        ({"resolution": "sandbox:fail"}, Decimal("4.2"), "5s"),
        ({"resolution": ["480p"]}, Decimal(61), "64s"),
        ({}, Decimal(10) ** 30, "65536s"),
    ],
)
def test_inputs_have_few_names(given: dict[str, Any], seconds: Decimal | None, name: str) -> None:
    assert input_class(given, seconds) == name
