"""Every statement that a gateway sends, in order."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from tests.support.gateway import Gateway


@contextmanager
def recorded(gateway: Gateway) -> Iterator[list[list[str]]]:
    """Write down each transaction's statements, and each read's; BEGIN and COMMIT apart."""
    engines = gateway.auth._database.watch()  # noqa: SLF001 - all share one
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
