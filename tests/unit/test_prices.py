"""What a job costs by the operator's table."""

from decimal import Decimal
from typing import Any

import pytest

from app.catalogue.service import Catalogue
from app.jobs.prices import prices_of
from app.quotas.pricing import Price, PriceUnit, condition, matching, price_of

FIVE = Decimal(5)


def line(base: str = "0.10", unit: PriceUnit = "second", model: str = "a/b", **when: str) -> Price:
    return Price(model=model, base_price_usd=Decimal(base), price_unit=unit, when=when)


def cost(
    *prices: Price, output_seconds: Decimal | None = FIVE, outputs: int | None = 1, **values: Any
) -> Decimal | None:
    return price_of(prices, input=values, output_seconds=output_seconds, outputs=outputs)


def test_seconds_and_outputs_are_paid_by_their_number() -> None:
    assert cost(line("0.10"), outputs=4) == Decimal("0.50")
    assert cost(line("0.10", "output")) == Decimal("0.10")
    assert cost(line("0.10", "output"), outputs=4, output_seconds=None) == Decimal("0.40")


def test_outputs_of_an_unknown_number_have_no_price() -> None:
    assert cost(line("0.10", "output"), outputs=None) is None
    assert cost(line("0.10"), outputs=None) == Decimal("0.50")


def test_no_line_no_price() -> None:
    assert cost() is None
    assert cost(line(resolution="1080p"), resolution="480p") is None
    assert cost(line(resolution="1080p")) is None


@pytest.mark.parametrize("seconds", [None, Decimal(0), Decimal(-1)])
def test_a_price_per_second_needs_seconds(seconds: Decimal | None) -> None:
    assert cost(line(), output_seconds=seconds) is None


def test_free_is_a_price() -> None:
    assert cost(line("0")) == Decimal(0)


def test_a_model_has_only_its_own_lines() -> None:
    model = Catalogue.bundled().list()[0]
    own, anothers = line(model=model.model_id), line(model="a/c")
    assert prices_of(model, [anothers, own]) == [own]


def test_the_most_specific_line_wins_wherever_it_stands() -> None:
    general = line("0.10")
    sharp = line("0.20", resolution="1080p")
    sharp_and_long = line("0.30", resolution="1080p", duration="10")
    for prices in ([general, sharp, sharp_and_long], [sharp_and_long, sharp, general]):
        assert matching(prices, input={"resolution": "480p"}) is general
        assert matching(prices, input={"resolution": "1080p"}) is sharp
        longest = {"resolution": "1080p", "duration": 10}
        assert matching(prices, input=longest) is sharp_and_long


def test_the_first_of_equally_specific_lines_wins() -> None:
    by_resolution, by_duration = line(resolution="1080p"), line(duration="10")
    both = {"resolution": "1080p", "duration": 10}
    assert matching([by_resolution, by_duration], input=both) is by_resolution
    assert matching([by_duration, by_resolution], input=both) is by_duration


def test_the_most_specific_line_is_the_price_even_where_it_gives_none() -> None:
    prices = [line("1", "output"), line("0.10", audio="true")]
    assert cost(*prices, output_seconds=None, audio=True) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        (5.0, "5"),
        (1e1, "10"),
        (-0.0, "0"),
        ("5", "5"),
        (0.5, "0.5"),
        (True, "true"),
        (False, "false"),
        ("1080p", "1080p"),
    ],
)
def test_values_are_compared_as_they_read(value: Any, text: str) -> None:
    assert condition(value) == text
    assert cost(line(field=text), field=value) == Decimal("0.50")


@pytest.mark.parametrize("value", [None, [], {}, ["5"], {"5": 5}])
def test_what_is_no_single_value_meets_no_condition(value: Any) -> None:
    assert cost(line(field="5"), field=value) is None


@pytest.mark.parametrize(
    ("base", "seconds", "expected"),
    [
        ("0.000001", "0.5", "0.000001"),  # half up, not to even
        ("0.000001", "0.4", "0"),
        ("0.000003", "2.5", "0.000008"),
        ("0.333333", "3", "0.999999"),
    ],
)
def test_costs_are_rounded_to_millionths_half_up(base: str, seconds: str, expected: str) -> None:
    assert cost(line(base), output_seconds=Decimal(seconds)) == Decimal(expected)
