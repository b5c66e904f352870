"""Pages of jobs: their cursor and their filters, checked parameter by parameter."""

import re
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import Depends, Query, Request

from app.api.paging import Page, PageCursor, PageLimit
from app.api.parameters import each_once, instant_of, unknown_filter
from app.api.problems import InvalidParameterError
from app.core.ids import is_id
from app.jobs.models import JobFilter
from app.jobs.state import JobState, states_of

_METADATA = re.compile(r"metadata\[(.{0,40})\]", re.DOTALL)
_MOST_METADATA = 10  # each adds a condition to the query, and SQLite limits those
_KNOWN = {"status", "model", "created_after", "created_before", "limit", "cursor"}
_STATUSES = sorted({state.status for state in JobState})


async def job_page(limit: PageLimit = 20, cursor: PageCursor = None) -> Page:
    """Read `limit` and `cursor`; the filters read the rest."""
    return Page.after(cursor, limit, is_cursor=partial(is_id, prefix="job"))


def job_filter(*others: str) -> Callable[..., Awaitable[JobFilter]]:
    """Make the dependency that reads filters; an unknown one is refused, not ignored."""
    known = _KNOWN | set(others)

    async def read(
        request: Request,
        status: Annotated[str | None, Query(description="One or several, comma-separated.")] = None,
        model: Annotated[str | None, Query()] = None,
        created_after: Annotated[str | None, Query(description="RFC 3339 with a zone.")] = None,
        created_before: Annotated[str | None, Query(description="RFC 3339 with a zone.")] = None,
    ) -> JobFilter:
        return JobFilter(
            states=None if status is None else _states(status),
            model=model,
            created_after=_instant("created_after", created_after),
            created_before=_instant("created_before", created_before),
            metadata=_metadata(request, known),
        )

    return read


JobPage = Annotated[Page, Depends(job_page)]
BY_METADATA = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            "example": {"order": "4711"},
            "description": "Jobs with all of these entries, written as `metadata[order]=4711`.",
        }
    ]
}
"""The filter by names that callers choose, for the OpenAPI document."""

Filter = Annotated[JobFilter, Depends(job_filter())]
AdminFilter = Annotated[JobFilter, Depends(job_filter("user"))]


def _metadata(request: Request, known: Collection[str]) -> dict[str, str]:
    """Return the filters on metadata; refuse any parameter that is neither that nor `known`."""
    metadata: dict[str, str] = {}
    for name, value in each_once(request).items():
        if match := _METADATA.fullmatch(name):
            metadata[match[1]] = value
        elif name not in known:
            raise unknown_filter(name, known=f"{', '.join(sorted(known))} and metadata[<key>]")
    if len(metadata) > _MOST_METADATA:
        raise InvalidParameterError(
            "metadata", f"At most {_MOST_METADATA} entries of metadata can be asked for at once."
        )
    return metadata


def _states(words: str) -> frozenset[JobState]:
    states: frozenset[JobState] = frozenset()
    for word in dict.fromkeys(words.split(",")):  # one may be repeated thousands of times
        named = states_of(word)
        if not named:
            raise InvalidParameterError(
                "status", f"{word[:40]!r} is not a status; known are {', '.join(_STATUSES)}."
            )
        states |= named
    return states


def _instant(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    at = instant_of(text)
    if at is None:
        raise InvalidParameterError(
            name, f"{name} must be an RFC 3339 time with a zone, like 2026-11-22T10:00:00Z."
        )
    return at
