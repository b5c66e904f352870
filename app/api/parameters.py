"""Query parameters, read strictly: each at most once, and no unknown ones."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime

from fastapi import Request

from app.api.problems import InvalidParameterError
from app.core.timestamps import from_rfc3339


def each_once(request: Request) -> Mapping[str, str]:
    """Return the parameters by name; raise InvalidParameterError for a repeated one, or a NUL."""
    given = request.query_params.multi_items()
    times = Counter(name for name, _ in given)
    for name, value in given:
        if times[name] > 1:
            raise InvalidParameterError(name[:64], f"The parameter {name[:64]!r} is given twice.")
        if "\0" in name or "\0" in value:
            raise InvalidParameterError(name[:64], "A parameter cannot hold a NUL.")
    return dict(given)


def refuse_others(request: Request, known: Collection[str]) -> None:
    """Raise InvalidParameterError for a parameter that is not `known`, or as `each_once` does."""
    for name in each_once(request):
        if name not in known:
            raise unknown_filter(name, known=", ".join(sorted(known)))


def unknown_filter(name: str, *, known: str) -> InvalidParameterError:
    return InvalidParameterError(name[:64], f"There is no filter {name[:64]!r}; known are {known}.")


def instant_of(text: str) -> datetime | None:
    """Read an RFC 3339 time with a zone, whose plus sign may have arrived as a space."""
    return from_rfc3339(text.replace(" ", "+"))
