"""What somebody may have meant by an unknown name."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like the given one, if any is like it at all."""
    return next(iter(get_close_matches(name[:200], list(known), n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name, in words to append to the given one; or an empty string."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near else ""
