"""Every statement that a gateway sends, in order, and every one that is made once."""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Executable, event

from app.db import prepared
from tests.support.gateway import Gateway

_ROOMS = ("jobs", "quotas", "auth", "events", "webhooks", "storage")


@contextmanager
def recorded(gateway: Gateway) -> Iterator[list[list[str]]]:
    """Write down each transaction's statements, and each read's; BEGIN and COMMIT apart."""
    engines = gateway.keys._database.watch()  # noqa: SLF001 - all share one
    seen: list[list[str]] = []
    current: dict[int, list[str]] = {}

    def begin(connection: Connection) -> None:
        current[id(connection)] = []
        seen.append(current[id(connection)])

    def execute(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "COMMIT")):
            current.get(id(connection), []).append(statement)

    for engine in engines:
        event.listen(engine, "begin", begin, insert=True)
        event.listen(engine, "before_cursor_execute", execute)
    yield seen
    for engine in engines:
        event.remove(engine, "begin", begin)
        event.remove(engine, "before_cursor_execute", execute)


@contextmanager
def compiled_anew(gateway: Gateway) -> Iterator[list[str]]:
    """Write down the statements that are not made once: each costs far more than its answer."""
    database = gateway.keys._database  # noqa: SLF001 - all share one
    engines = database.watch()
    database._connections._made_once.in_use = True  # type: ignore[attr-defined]  # noqa: SLF001
    seen: list[str] = []

    def execute(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    for engine in engines:
        event.listen(engine, "before_cursor_execute", execute)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", execute)


def all_made_once() -> Sequence[Executable]:
    """Import what asks the database, and give what it makes once."""
    for room in _ROOMS:
        package = importlib.import_module(f"app.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"app.{room}."):
            importlib.import_module(module.name)
    return [*prepared._made_once]  # noqa: SLF001 - nobody else asks for all
