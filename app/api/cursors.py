"""Cursors of pages: the last id of the page before, in an alphabet for queries."""

import base64
import binascii
from collections.abc import Callable

from app.api.problems import InvalidParameterError


def encoded(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decoded(cursor: str, *, is_cursor: Callable[[str], bool]) -> str:
    """Return the id; raise InvalidParameterError unless `is_cursor` accepts it."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        last_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        last_id = ""
    if not is_cursor(last_id):
        raise InvalidParameterError(
            "cursor",
            "The cursor is not one that this call gave; use `next_cursor` of a page as it is.",
        )
    return last_id
