"""Makes records of rows: each field is the column of the same name, unless it is given."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import ColumnClause

from app.db.models.base import Base
from app.db.statements import table_of

Record = TypeVar("Record")


def columns_of(table: type[Base], kind: type[Any]) -> Sequence[ColumnClause[Any]]:
    """Return the table's columns that are also fields of this dataclass."""
    names = {field.name for field in fields(kind)}
    return [column for column in table_of(table).columns if column.name in names]


def record_of(kind: type[Record], row: Any, **given: Any) -> Record:
    """Make a dataclass of a row; `given` are the fields that differ from the columns."""
    values = row._asdict() | given
    names = _names(kind)  # type: ignore[arg-type] # mypy takes classes for unhashable
    return kind(**{name: values[name] for name in names})


@cache
def _names(kind: Any) -> Sequence[str]:
    return [field.name for field in fields(kind)]
