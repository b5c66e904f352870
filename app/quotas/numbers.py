"""JSON's numbers, read and written without the surprises of floating point."""

import re
from decimal import Decimal
from typing import Any

_TOO_LARGE = 10**20  # beyond this, decimals would be rounded away
_DECIMAL = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?", re.ASCII)


def decimal_of(value: Any) -> Decimal | None:
    """Read a JSON number, or a string like "0.10"; None for all else, infinity included."""
    match value:
        case bool():
            return None
        case int() if abs(value) < _TOO_LARGE:
            return Decimal(value)
        case float():
            number = Decimal(repr(value))
            return number if abs(number) < _TOO_LARGE else None
        case str() if _DECIMAL.fullmatch(value):
            return Decimal(value)
        case _:
            return None


def has_at_most(number: Decimal, *, decimals: int) -> bool:
    return number == round(number, decimals)


def shown_number(amount: Decimal) -> int | float:
    """Convert to a JSON number, a whole one without a fraction."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def shown_usd(amount: Decimal) -> str:
    """Write money as a decimal string, with at least two decimals."""
    whole, _, fraction = format(amount.normalize(), "f").partition(".")
    return f"{whole}.{fraction:0<2}"
