"""What a job costs by the prices of its model: pure functions of plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

PriceUnit = Literal["second", "output"]

_MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One line of a price table: it applies to inputs that have every value in `when`."""

    model: str
    base_price_usd: Decimal
    price_unit: PriceUnit
    when: Mapping[str, str] = field(default_factory=dict)


def price_of(
    prices: Sequence[Price],
    *,
    input: Mapping[str, Any],  # noqa: A002 - the wire's word
    output_seconds: Decimal | None,
    outputs: int | None,
) -> Decimal | None:
    """Return what a job costs in US dollars, or None if that is not known.

    `outputs` and `output_seconds` are the totals that it asks for.
    """
    line = matching(prices, input=input)
    amount = outputs if line is not None and line.price_unit == "output" else output_seconds
    if line is None or amount is None or amount <= 0:
        return None
    return (line.base_price_usd * amount).quantize(_MICRO, rounding=ROUND_HALF_UP)


def matching(prices: Sequence[Price], *, input: Mapping[str, Any]) -> Price | None:  # noqa: A002
    """Find the line with the most conditions, if all of them are met; of several the first."""
    lines = [
        price
        for price in prices
        if all(name in input and meets(input[name], text) for name, text in price.when.items())
    ]
    return max(lines, key=lambda price: len(price.when), default=None)


def list_price(prices: Sequence[Price]) -> tuple[Price | None, Sequence[Price]]:
    """Return the line that applies to any input, and those with conditions, which come first."""
    general = next((price for price in prices if not price.when), None)
    return general, [price for price in prices if price.when]


def meets(value: Any, text: str) -> bool:
    """Whether an input's value meets a condition: 5, 5.0 and "5" are the same."""
    return _text(value) == text


def condition(value: str | float) -> str:
    """Return the text that `meets` compares with."""
    text = _text(value)
    assert text is not None
    return text


def _text(value: Any) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case str():
            return value
        case _:
            return None
