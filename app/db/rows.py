"""Passes any number of rows to a prepared statement as one parameter, in JSON.

With VALUES, each number of rows is another statement, to be compiled and planned anew; if they are
handed over one by one, Postgres' driver takes as long for each row as for a statement.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    CTE,
    JSON,
    ColumnClause,
    Executable,
    Result,
    Text,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal_column,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models.base import Base, in_utc
from app.db.prepared import made_once
from app.db.statements import table_of

_NEW = "new"
_DIALECTS: Mapping[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
_JSON_TYPES = (str, int, float, dict, list)


class Rows:
    """Rows with these columns, which statements see as the table `new`."""

    def __init__(self, *columns: ColumnClause[Any]) -> None:
        self.on: Mapping[str, CTE] = {
            "sqlite": _on_sqlite(columns),
            "postgresql": _on_postgres(columns),
        }
        """The rows as a table, by the name of the database's dialect."""

    def in_statement(self, make: Callable[[CTE], Executable]) -> "RowsStatement":
        """Prepare a statement on them for each database."""
        return RowsStatement({dialect: made_once(make(rows)) for dialect, rows in self.on.items()})

    def in_upsert(self, row: type[Base], settle: Callable[[Any], Executable]) -> "RowsStatement":
        """Prepare an INSERT of them for each database; `settle` adds what to do on a conflict.

        They are added in the order of the primary key, so that replicas cannot deadlock.
        """
        table = table_of(row)

        def upsert(dialect: str, new: CTE) -> Executable:
            in_order = (
                select(new)
                .where(true())  # or SQLite would take ON CONFLICT for the ON of a join
                .order_by(*(new.c[each.name] for each in table.primary_key))
            )
            names = [each.name for each in new.c]
            return settle(_DIALECTS[dialect].insert(table).from_select(names, in_order))

        return RowsStatement({name: made_once(upsert(name, new)) for name, new in self.on.items()})


class RowsStatement:
    """A statement on rows, one for each database's dialect."""

    def __init__(self, on: Mapping[str, Executable]) -> None:
        self._on = on

    async def execute(
        self, tx: AsyncConnection, rows: Sequence[Mapping[str, Any]], **parameters: Any
    ) -> Result[*tuple[Any, ...]]:
        """Run it on any number of rows; a column that a row does not name is NULL."""
        dialect = tx.dialect.name
        stored = _stored_by_sqlite if dialect == "sqlite" else datetime.isoformat
        values = [
            {
                name: value if isinstance(value, _JSON_TYPES) else _time_as_text(value, stored)
                for name, value in row.items()
                if value is not None
            }
            for row in rows
        ]
        return await tx.execute(self._on[dialect], {_NEW: to_json(values).decode(), **parameters})


class NewRows(Rows):
    """Rows to be added to a table."""

    def __init__(self, row: type[Base]) -> None:
        table = table_of(row)
        super().__init__(*table.columns)
        self._add = self.in_statement(
            lambda new: insert(table).from_select(list(table.columns), select(new))
        )

    async def add(self, tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
        await self._add.execute(tx, rows)


def _on_sqlite(columns: Sequence[ColumnClause[Any]]) -> CTE:
    each = func.json_each(bindparam(_NEW, type_=Text)).table_valued("value")
    return select(
        *(
            type_coerce(
                func.json_extract(each.c.value, literal_column(f"'$.{place.name}'")), place.type
            ).label(place.name)
            for place in columns
        )
    ).cte(_NEW)


def _on_postgres(columns: Sequence[ColumnClause[Any]]) -> CTE:
    each = (
        func.json_to_recordset(cast(bindparam(_NEW, type_=Text), JSON))
        .table_valued(*(column(place.name, place.type) for place in columns))
        .render_derived(with_types=True)
    )
    return select(each).cte(_NEW)


def _time_as_text(value: object, stored: Callable[[datetime], str]) -> str:
    """Write a time as text, since JSON has no times; refuse any other value."""
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} cannot be stored")
    return stored(in_utc(value))


def _stored_by_sqlite(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat(" ", "microseconds")
