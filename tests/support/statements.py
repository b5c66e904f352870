"""Every statement that a gateway sends, in order, and every one that is made once."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Executable, event

from app.db import prepared
from app.db.engine import Database
from tests.support.gateway import Gateway

_ROOMS = ("jobs", "quotas", "auth", "events", "webhooks", "storage")


@contextmanager
def recorded(gateway: Gateway) -> Iterator[list[list[str]]]:
    """Record each transaction's statements, and each read's, except BEGIN and COMMIT."""
    seen: list[list[str]] = []
    current: dict[int, list[str]] = {}

    def begin(connection: Connection) -> None:
        current[id(connection)] = []
        seen.append(current[id(connection)])

    def execute(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "COMMIT")):
            current.get(id(connection), []).append(statement)

    with _listening(gateway, begin=begin, before_cursor_execute=execute):
        yield seen


@contextmanager
def compiled_anew(gateway: Gateway) -> Iterator[list[str]]:
    """Record the statements that are not made once: each costs far more than its answer."""
    seen: list[str] = []

    def execute(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    with _listening(gateway, before_cursor_execute=execute) as database:
        database._connections._made_once.in_use = True  # type: ignore[attr-defined]  # noqa: SLF001
        yield seen


@contextmanager
def _listening(gateway: Gateway, **listeners: Callable[..., None]) -> Iterator[Database]:
    database = gateway.keys._database  # noqa: SLF001 - all share one
    engines = database.watch()
    for engine in engines:
        for name, listener in listeners.items():
            event.listen(engine, name, listener, insert=name == "begin")
    try:
        yield database
    finally:
        for engine in engines:
            for name, listener in listeners.items():
                event.remove(engine, name, listener)


def all_made_once() -> Sequence[Executable]:
    """Import all that queries the database, and return the statements it makes once."""
    for room in _ROOMS:
        package = importlib.import_module(f"app.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"app.{room}."):
            importlib.import_module(module.name)
    return [*prepared._made_once]  # noqa: SLF001 - nobody else asks for all
