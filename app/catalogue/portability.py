"""Which JSON values survive a database and upstream, and which are refused."""

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 32
MAX_VALUES = 1000
MAX_INTEGER_BITS = 64


def portability_flaw(value: Any) -> str | None:
    """Say why `value` cannot be stored and sent, as the end of a sentence; None if it can."""
    waiting = [(value, 0)]
    seen = 0
    while waiting:
        item, depth = waiting.pop()
        inside = [*item, *item.values()] if isinstance(item, dict) else item
        if not isinstance(inside, list):
            if flaw := _scalar_flaw(item):
                return flaw
            continue
        seen += len(inside)
        if seen > MAX_VALUES:
            return f"must hold at most {MAX_VALUES} values"
        if depth == MAX_DEPTH:
            return f"must be nested at most {MAX_DEPTH} levels deep"
        waiting.extend((child, depth + 1) for child in inside)
    return None


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a value, names included, however deep."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item


def is_storable(text: str) -> bool:
    """Return whether a text holds neither a NUL nor a lone surrogate."""
    if "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _scalar_flaw(item: Any) -> str | None:
    if isinstance(item, str) and not is_storable(item):
        return "must not hold a NUL character or half of a surrogate pair"
    if isinstance(item, float) and not math.isfinite(item):
        return "must be a finite number"
    if isinstance(item, int) and item.bit_length() > MAX_INTEGER_BITS:
        return f"must be a number of at most {MAX_INTEGER_BITS} bits"
    return None
