"""What SQLAlchemy leaves to its users in statements that write many rows at once."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnClause, bindparam


def typed_rows(
    columns: Sequence[ColumnClause[Any]], rows: Sequence[Sequence[Any]]
) -> list[tuple[BindParameter[Any], ...]]:
    """Give each value its column's type: Postgres takes a bare NULL in VALUES for text."""
    return [
        tuple(
            bindparam(None, value, type_=place.type, unique=True)
            for place, value in zip(columns, row, strict=True)
        )
        for row in rows
    ]
