"""What somebody may have meant by a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches


def guess(name: str, known: Iterable[str]) -> str:
    """Give the nearest known name, to be put behind the one that was given; or nothing."""
    near = get_close_matches(name[:200], list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
