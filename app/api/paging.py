"""Pages of lists ordered by id: one cursor, and the filters that a call knows."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Annotated, Generic, Literal, Self, TypeVar

from fastapi import Query, Request
from pydantic import BaseModel

from app.api.parameters import refuse_others
from app.api.problems import InvalidParameterError
from app.core.ids import is_id

Record = TypeVar("Record")
Read = TypeVar("Read", bound=BaseModel)

# A page is in memory until its reader has taken it, and slow readers may be many.
_LONGEST_PAGE = 2**20

PageLimit = Annotated[int, Query(ge=1, le=100)]
PageCursor = Annotated[str | None, Query(description="The `next_cursor` of the page before.")]


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor` is the last id of the previous page."""

    limit: int
    cursor: str | None

    @property
    def to_read(self) -> int:
        """One record more than is shown, to tell whether there is another page."""
        return self.limit + 1

    @classmethod
    def after(cls, cursor: str | None, limit: int, *, is_cursor: Callable[[str], object]) -> Self:
        """Read the cursor of a call; raise InvalidParameterError unless `is_cursor` accepts it."""
        return cls(limit, None if cursor is None else _last_id(cursor, is_cursor=is_cursor))


def page_query(*filters: str, is_cursor: Callable[[str], object]) -> Callable[..., Awaitable[Page]]:
    """Make the dependency that reads `limit` and `cursor`, and refuses unknown parameters."""
    known = {"limit", "cursor", *filters}

    async def read(request: Request, limit: PageLimit = 20, cursor: PageCursor = None) -> Page:
        refuse_others(request, known)
        return Page.after(cursor, limit, is_cursor=is_cursor)

    return read


def page_of_ids(prefix: str, *filters: str) -> Callable[..., Awaitable[Page]]:
    """Make the dependency for a list ordered by ids that `new_id(prefix)` made."""
    return page_query(*filters, is_cursor=partial(is_id, prefix=prefix))


class Listed(BaseModel, Generic[Read]):
    """One page of a list, as the wire knows it."""

    object: Literal["list"] = "list"
    data: list[Read]
    next_cursor: str | None

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        page: Page,
        *,
        read: Callable[[Record], Read],
        id_of: Callable[[Record], str] = attrgetter("id"),
        length_of: Callable[[Read], int] = lambda _: 0,
    ) -> Self:
        """Make a page of up to `page.to_read` records.

        It ends early once those shown have a million characters, by `length_of`.
        """
        shown: list[Read] = []
        length = 0
        while len(shown) < min(len(records), page.limit) and length < _LONGEST_PAGE:
            shown.append(read(records[len(shown)]))
            length += length_of(shown[-1])
        more = len(shown) < len(records)
        return cls(
            data=shown,
            next_cursor=_cursor(id_of(records[len(shown) - 1])) if more else None,
        )


def _cursor(last_id: str) -> str:
    """Encode an id in characters that are safe in a query."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def _last_id(cursor: str, *, is_cursor: Callable[[str], object]) -> str:
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
