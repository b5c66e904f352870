"""Statements that are made once: put together once, and handed to the driver from then on.

SQLAlchemy takes several times as long over a statement as its driver does, most of it to find out
each time what is the same each time. It says here what to send, and how values and rows are turned;
sending is left to who has the connection.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import BindParameter, Dialect, Executable, Result, literal_column
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler

Statement = TypeVar("Statement", bound=Executable)

_made_once: dict[Executable, bool] = {}
_Turn = Callable[[Any], Any]


def made_once(statement: Statement, *, wants_rows: bool = True) -> Statement:
    """Let a statement be put together, and planned by Postgres, once.

    For one that lives as long as the module, and whose text and plan are good for any parameters.
    If it `wants_rows`, those that it gives are read.
    """
    _made_once[statement] = wants_rows
    return statement


class Prepared:
    """One statement for one database: its text for the driver."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = _with_its_words(statement, dialect).compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        if compiled.post_compile_params:
            raise ValueError(f"its text is not the same with any parameters: {compiled}")
        self.text = compiled.string
        self._order: Sequence[str] | None = compiled.positiontup if compiled.positional else None
        self._known: dict[str, Any] = {}
        self._asked: dict[str, _Turn | None] = {}
        for bind, name in compiled.bind_names.items():
            self._note(bind, name, dialect)
        columns = statement.exported_columns.values()  # type: ignore[attr-defined]
        self.has_rows = _made_once[statement] and bool(columns)
        self._shape = SimpleResultMetaData([column.key for column in columns])
        turns = (_from_driver(column.type, dialect) for column in columns)
        self._turns = [(place, turn) for place, turn in enumerate(turns) if turn is not None]

    def _note(self, bind: BindParameter[Any], name: str, dialect: Dialect) -> None:
        turn = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if bind.required:
            self._asked[name] = turn
        else:
            value = bind.effective_value
            self._known[name] = value if turn is None else turn(value)

    def values(self, parameters: Mapping[str, Any] | None) -> Mapping[str, Any] | Sequence[Any]:
        """Give the driver's parameters; raises KeyError for one that is missing."""
        values = dict(self._known)
        given = parameters or {}
        for name, turn in self._asked.items():
            value = given[name]
            values[name] = value if turn is None else turn(value)
        return values if self._order is None else [values[name] for name in self._order]

    def result(self, rows: Iterable[Sequence[Any]]) -> Result[Any]:
        """Turn the driver's rows into SQLAlchemy's."""
        if self._turns:
            rows = [self._turned(row) for row in rows]
        return IteratorResult(self._shape, iter(rows))

    def _turned(self, row: Sequence[Any]) -> tuple[Any, ...]:
        turned = list(row)
        for place, turn in self._turns:
            turned[place] = turn(turned[place])
        return tuple(turned)


class PreparedStatements:
    """What was made once for one database; nothing is, where it is not `in_use`."""

    def __init__(self, *, in_use: bool = True) -> None:
        self.in_use = in_use
        self._prepared: dict[Executable, Prepared] = {}

    def find(self, statement: Executable, dialect: Dialect) -> Prepared | None:
        """Give a statement that is made once as it is sent, and None for any other."""
        if not self.in_use:
            return None
        found = self._prepared.get(statement)
        if found is None and statement in _made_once:
            found = self._prepared[statement] = Prepared(statement, dialect)
        return found


def driver_error(dialect: Dialect) -> type[Exception]:
    """Give what a database's driver raises."""
    assert dialect.dbapi is not None
    return dialect.dbapi.Error


def wrapped(error: Exception, dialect: Dialect) -> DBAPIError:
    """Turn a driver's error into SQLAlchemy's."""
    failure = DBAPIError.instance(None, None, error, driver_error(dialect), dialect=dialect)
    assert isinstance(failure, DBAPIError)
    return failure


def _with_its_words(statement: Executable, dialect: Dialect) -> Any:
    """Put its own values into its text, so that a plan for any parameters is made with them.

    Postgres thinks of a state that it does not know as of one that a tenth of all jobs are in.
    """

    def word(element: Any, **_: Any) -> Any:
        if not isinstance(element, BindParameter) or element.required:
            return None
        write = element.type.dialect_impl(dialect).literal_processor(dialect)
        written = write and write(element.effective_value)
        # What the driver takes for its own sign is doubled, and would be doubled once more here.
        return literal_column(written, element.type) if written and "%" not in written else None

    return visitors.replacement_traverse(cast("Any", statement), {}, word)


def _from_driver(type_: Any, dialect: Dialect) -> _Turn | None:
    turn: _Turn | None = type_.dialect_impl(dialect).result_processor(dialect, None)
    return turn
