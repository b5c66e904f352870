"""What somebody may have meant by an unknown name."""

from collections.abc import Iterable
from difflib import get_close_matches


def guess(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name, to be appended to the given one; or an empty text."""
    near = get_close_matches(name[:200], list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
