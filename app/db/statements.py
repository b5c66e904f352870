"""Helpers that SQLAlchemy lacks, above all for prepared statements."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Boolean,
    ColumnElement,
    Dialect,
    Select,
    SQLColumnExpression,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.db.models.base import Base, UtcDateTime


def instant(name: str) -> BindParameter[datetime]:
    """A parameter for a time, given when the statement runs."""
    return bindparam(name, type_=UtcDateTime())


def among(value: SQLColumnExpression[str], name: str) -> ColumnElement[bool]:
    """The condition that a text is in the list given as `name` when the statement runs.

    The list is one parameter. With IN, each length of the list is another statement, compiled and
    planned anew.
    """
    return _Among(value, bindparam(name, type_=_Texts()))


def one_of(value: SQLColumnExpression[str], texts: Iterable[str]) -> ColumnElement[bool]:
    """The condition that a text is one of these constants.

    As parameters of IN they would be put into the statement's text anew at each execution.
    """
    return value.in_([literal_column(f"'{each}'") for each in sorted(texts)])


def table_of(row: type[Base]) -> Table:
    """Return the bare table: a statement on the mapped class is compiled at each execution."""
    return row.metadata.tables[row.__tablename__]


def insert_into(tx: AsyncConnection, table: type[Base]) -> Any:
    """Begin an INSERT that supports ON CONFLICT, in the database's dialect."""
    return (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(table)


async def lock_table(tx: AsyncConnection, table: type[Base]) -> None:
    """Make the writers of a rarely written table take turns; readers go on.

    Call it first in a transaction. SQLite has only one writer anyway.
    """
    if tx.dialect.name == "postgresql":
        await tx.execute(text(f"LOCK TABLE {table.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))


def newest(
    rows: Select[*tuple[Any, ...]],
    *,
    by: SQLColumnExpression[str],
    before: str | None,
    limit: int,
) -> Select[*tuple[Any, ...]]:
    """Select up to `limit` of these rows, newest first, older than the id `before`."""
    older = rows if before is None else rows.where(by < before)
    return older.order_by(by.desc()).limit(limit)


class _Texts(TypeDecorator[Sequence[str]]):
    """An array on Postgres, JSON on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return Text() if dialect.name == "sqlite" else ARRAY(Text())

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        return json.dumps(value) if dialect.name == "sqlite" else value


class _Among(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: OperatorType | None = None) -> "_Among":
        return self  # otherwise it is rendered as `= 1`, for which SQLite uses no index


@compiles(_Among, "sqlite")
def _in_json(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    value, texts = element.clauses
    return compiler.process(value.in_(select(func.json_each(texts).table_valued("value"))), **kw)


@compiles(_Among, "postgresql")
def _in_array(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    value, texts = element.clauses
    # The planner knows nothing about a list from a subquery, so one plan serves all lists. For a
    # plain parameter Postgres would make a new plan each time.
    listed = cast(select(texts).scalar_subquery(), texts.type)
    return compiler.process(value == any_(listed), **kw)
