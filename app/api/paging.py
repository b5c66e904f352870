"""Pages of lists ordered by id: one cursor, and the filters that a call knows."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, Self, TypeVar

from fastapi import Query, Request
from pydantic import BaseModel

from app.api import cursors
from app.api.parameters import each_once, unknown_filter

Record = TypeVar("Record")
Read = TypeVar("Read", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor` is the last id of the page before."""

    limit: int
    cursor: str | None


def page_query(*filters: str, is_cursor: Callable[[str], bool]) -> Callable[..., Awaitable[Page]]:
    """Make the dependency that reads `limit` and `cursor`, and refuses unknown parameters."""
    known = {"limit", "cursor", *filters}

    async def read(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Query(description="`next_cursor` of a page.")] = None,
    ) -> Page:
        for name in each_once(request):
            if name not in known:
                raise unknown_filter(name, known=", ".join(sorted(known)))
        return Page(limit, None if cursor is None else cursors.decoded(cursor, is_cursor=is_cursor))

    return read


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
        id_of: Callable[[Record], str],
        read: Callable[[Record], Read],
    ) -> Self:
        """Make a page from its records and the one more that was asked for."""
        shown = records[: page.limit]
        more = len(records) > page.limit
        return cls(
            data=[read(record) for record in shown],
            next_cursor=cursors.encoded(id_of(shown[-1])) if more else None,
        )
