"""Limits as operators write them: checked name by name, stored as text, shown as numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, get_args

from app.core.errors import FieldError
from app.core.pointers import json_pointer
from app.core.suggestions import did_you_mean
from app.quotas.errors import shown_amount
from app.quotas.numbers import decimal_of, has_at_most
from app.quotas.policy import WINDOWED, Limit, LimitName, Limits, Measure, Mode

LimitChanges = Mapping[LimitName, Limit | None]
"""Changes of limits by name; None removes one."""

_MODES = get_args(Mode)
_HIGHEST = 1_000_000_000
_FASTEST = 1_000_000  # the minute is divided into whole microseconds


@dataclass(frozen=True, slots=True)
class _Form:
    """How a limit is written: its decimals, and whether text is allowed."""

    decimals: int
    text: bool
    words: str


_COUNT = _Form(0, text=False, words="a whole number")
_FORMS: Mapping[Measure, _Form] = {
    Measure.JOBS: _COUNT,
    Measure.MILLISECONDS: _Form(3, text=False, words="a number of seconds, at most 3 decimals"),
    Measure.MICRO_USD: _Form(
        6, text=True, words='US dollars with at most 6 decimals, like "2.50" or 2.5'
    ),
}


def checked_limits(given: Mapping[str, Any]) -> tuple[LimitChanges, list[FieldError]]:
    """Read the `limits` of a body; return them with all that is wrong with them."""
    limits: dict[LimitName, Limit | None] = {}
    errors: list[FieldError] = []
    for name, entry in given.items():
        at = "/limits" + json_pointer(name)
        faults = list(_faults(name, entry, at))
        errors += faults
        if not faults:
            limits[LimitName(name)] = None if entry is None else _limit(entry)
    return limits, errors


def changed(limits: Limits, changes: LimitChanges) -> Limits:
    return {name: limit for name, limit in {**limits, **changes}.items() if limit is not None}


def to_stored(limits: Limits) -> dict[str, Any]:
    """Return the form that `policy.stored_limits` reads."""
    return {
        name.value: {"limit": format(limit.limit, "f"), "mode": limit.mode}
        for name, limit in limits.items()
    }


def shown_limits(limits: Limits) -> dict[str, Any]:
    """Return the form that clients read: money as text, everything else as numbers."""
    return {
        name.value: {"limit": shown_amount(name, limit.limit), "mode": limit.mode}
        for name, limit in limits.items()
    }


def _limit(entry: Mapping[str, Any]) -> Limit:
    number = decimal_of(entry["limit"])
    assert number is not None
    whole = number == number.to_integral_value() and not isinstance(entry["limit"], str)
    return Limit(
        limit=Decimal(int(number)) if whole else number, mode=entry.get("mode") or "enforce"
    )


def _faults(name: str, entry: Any, at: str) -> Iterator[FieldError]:
    if name not in set(LimitName):
        known = [each.value for each in LimitName]
        way_out = did_you_mean(name, known) or f": known are {', '.join(known)}"
        yield FieldError(pointer=at, code="unknown_limit", detail=f"{at} is not a limit{way_out}.")
        return
    if entry is None:
        return
    if not isinstance(entry, Mapping):
        detail = f'{at} must be an object like {{"limit": 10, "mode": "enforce"}}, or null.'
        yield FieldError(pointer=at, code="type", detail=detail)
        return
    for field in entry:
        if field not in ("limit", "mode"):
            where = at + json_pointer(field)
            detail = f"{where} is not known: a limit has `limit` and `mode`."
            yield FieldError(pointer=where, code="unknown_field", detail=detail)
    if entry.get("mode") not in (None, *_MODES):
        detail = f"{at}/mode must be `enforce` or `shadow`."
        yield FieldError(pointer=f"{at}/mode", code="enum", detail=detail)
    if "limit" not in entry:
        yield FieldError(pointer=f"{at}/limit", code="required", detail=f"{at}/limit is missing.")
    else:
        yield from _number_faults(LimitName(name), entry["limit"], f"{at}/limit")


def _number_faults(name: LimitName, value: Any, at: str) -> Iterator[FieldError]:
    form = _FORMS[WINDOWED[name][0]] if name in WINDOWED else _COUNT
    highest = _FASTEST if name is LimitName.SUBMITS_PER_MINUTE else _HIGHEST
    number = None if isinstance(value, str) and not form.text else decimal_of(value)
    if number is None or not has_at_most(number, decimals=form.decimals):
        yield FieldError(pointer=at, code="type", detail=f"{at} must be {form.words}.")
    elif number < 0:
        yield FieldError(pointer=at, code="minimum", detail=f"{at} must not be negative.")
    elif number > highest:
        yield FieldError(pointer=at, code="maximum", detail=f"{at} must be at most {highest}.")
