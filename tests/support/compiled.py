"""Statements compiled once for all databases of a process, as by a gateway that runs for months."""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine.default import DefaultDialect


class _Compiled(dict[Any, Any]):
    """What SQLAlchemy keeps for each engine, here by what made it: the statement and the kind."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_a_kind(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_of_a_kind(key), compiled)


def compile_once() -> None:
    """Let engines that are made from now on share it; for each anew, it is a fifth of a test."""
    shared = _Compiled()

    def engine_created(engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=shared)

    DefaultDialect.engine_created = staticmethod(engine_created)  # type: ignore[assignment]


def _of_a_kind(key: tuple[Any, ...]) -> tuple[Any, ...]:
    dialect, *statement = key
    return type(dialect), *statement
