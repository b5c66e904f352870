"""Prepared statements: compiled once, and from then on handed straight to the driver.

SQLAlchemy takes several times as long over a statement as its driver does, mostly to work out what
is the same each time. Here it says once what to send and how to convert values and rows; sending is
left to the owner of the connection.
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
_prepared: dict[tuple[Executable, type[Dialect]], "Prepared"] = {}
_Processor = Callable[[Any], Any]


def made_once(statement: Statement, *, wants_rows: bool = True) -> Statement:
    """Mark a statement to be compiled, and planned by Postgres, only once.

    It must live as long as its module, and its text and plan must suit all parameters. Unless it
    `wants_rows`, the rows that it returns are not read.
    """
    _made_once[statement] = wants_rows
    return statement


class Prepared:
    """One statement for one database: its text for the driver."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = _with_literals(statement, dialect).compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        if compiled.post_compile_params:
            raise ValueError(f"its text is not the same for all parameters: {compiled}")
        self.text = compiled.string
        self._order: Sequence[str] | None = compiled.positiontup if compiled.positional else None
        self._known: dict[str, Any] = {}
        self._required: dict[str, _Processor | None] = {}
        for bind, name in compiled.bind_names.items():
            self._note(bind, name, dialect)
        columns = statement.exported_columns.values()  # type: ignore[attr-defined]
        self.has_rows = _made_once[statement] and bool(columns)
        self._shape = SimpleResultMetaData([column.key for column in columns])
        processors = (_from_driver(column.type, dialect) for column in columns)
        self._processors = [(place, process) for place, process in enumerate(processors) if process]

    def _note(self, bind: BindParameter[Any], name: str, dialect: Dialect) -> None:
        process = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if bind.required:
            self._required[name] = process
        else:
            value = bind.effective_value
            self._known[name] = value if process is None else process(value)

    def values(self, parameters: Mapping[str, Any] | None) -> Mapping[str, Any] | Sequence[Any]:
        """Return the driver's parameters; raise KeyError for a missing one."""
        values = dict(self._known)
        given = parameters or {}
        for name, process in self._required.items():
            value = given[name]
            values[name] = value if process is None else process(value)
        return values if self._order is None else [values[name] for name in self._order]

    def result(self, rows: Iterable[Sequence[Any]]) -> Result[Any]:
        """Convert the driver's rows to SQLAlchemy's."""
        if self._processors:
            rows = [self._processed(row) for row in rows]
        return IteratorResult(self._shape, iter(rows))

    def _processed(self, row: Sequence[Any]) -> tuple[Any, ...]:
        values = list(row)
        for place, process in self._processors:
            values[place] = process(values[place])
        return tuple(values)


class PreparedStatements:
    """Finds prepared statements for a database, while `in_use`; databases of a kind share them."""

    def __init__(self) -> None:
        self.in_use = True

    def find(self, statement: Executable, dialect: Dialect) -> Prepared | None:
        """Return the form in which to send a statement, or None if it is not `made_once`."""
        if not self.in_use:
            return None
        found = _prepared.get((statement, type(dialect)))
        if found is None and statement in _made_once:
            found = _prepared[statement, type(dialect)] = Prepared(statement, dialect)
        return found


def driver_error(dialect: Dialect) -> type[Exception]:
    """Return the error class of a database's driver."""
    assert dialect.dbapi is not None
    return dialect.dbapi.Error


def wrapped(error: Exception, dialect: Dialect) -> DBAPIError:
    """Turn a driver's error into SQLAlchemy's."""
    failure = DBAPIError.instance(None, None, error, driver_error(dialect), dialect=dialect)
    assert isinstance(failure, DBAPIError)
    return failure


def _with_literals(statement: Executable, dialect: Dialect) -> Any:
    """Put the constants into the text, so that Postgres' one plan for all parameters knows them.

    If a job's state were a parameter, it would assume that a tenth of all jobs are in that state.
    """

    def literal(element: Any, **_: Any) -> Any:
        if not isinstance(element, BindParameter) or element.required:
            return None
        write = element.type.dialect_impl(dialect).literal_processor(dialect)
        written = write and write(element.effective_value)
        # A % has been doubled for the driver already, and would be doubled again.
        return literal_column(written, element.type) if written and "%" not in written else None

    return visitors.replacement_traverse(cast("Any", statement), {}, literal)


def _from_driver(type_: Any, dialect: Dialect) -> _Processor | None:
    process: _Processor | None = type_.dialect_impl(dialect).result_processor(dialect, None)
    return process
