"""Cursors of pages: the last id of the page before, in an alphabet for queries."""

import base64
import binascii
from collections.abc import Callable

from app.api.problems import InvalidParameterError
from app.core.ids import is_id


def encode_cursor(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *, is_cursor: Callable[[str], bool]) -> str:
    """Give the id, or raise InvalidParameterError for what `is_cursor` knows to be none."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        last_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        last_id = ""
    if not is_cursor(last_id):
        raise InvalidParameterError(
            "cursor",
            "The cursor is none that this call gave; use `next_cursor` of a page as it is.",
        )
    return last_id


def last_job(cursor: str | None) -> str | None:
    """Give the job that a page begins after, if there is a page before it."""
    if cursor is None:
        return None
    return decode_cursor(cursor, is_cursor=lambda text: is_id(text, prefix="job"))
