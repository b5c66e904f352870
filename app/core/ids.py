"""Identifiers that sort by their time of creation and say what they name."""

import re
from itertools import product

from uuid_utils import uuid7

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"  # the digits of his base 32
_PAIRS = ["".join(pair) for pair in product(CROCKFORD, repeat=2)]
_TAIL = re.compile(f"[{CROCKFORD}]{{26}}")


def new_id(prefix: str) -> str:
    """Make `prefix_` and a UUIDv7 (RFC 9562) as 26 characters of Crockford's base 32."""
    number = uuid7().int
    return f"{prefix}_" + "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def is_id(text: str, *, prefix: str) -> bool:
    """Return whether `text` may be an id made by new_id; if not, a look-up is pointless."""
    head, _, tail = text.partition("_")
    return head == prefix and _TAIL.fullmatch(tail) is not None
