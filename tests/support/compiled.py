"""Statements compiled once for all databases of a process, as by a gateway that runs for months."""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine.default import DefaultDialect


class _Compiled(dict[Any, Any]):
    """SQLAlchemy's cache for an engine, but keyed by the dialect's type, not by the dialect."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_a_kind(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_of_a_kind(key), compiled)


def compile_once() -> None:
    """Let later engines share one cache: compiling for each anew takes a fifth of a test."""
    shared = _Compiled()

    def engine_created(engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=shared)

    DefaultDialect.engine_created = staticmethod(engine_created)  # type: ignore[assignment]


def _of_a_kind(key: tuple[Any, ...]) -> tuple[Any, ...]:
    dialect, *statement = key
    return type(dialect), *statement
