"""SQLite's connection as aiosqlite has it, but for the ways between two threads that it can save.

aiosqlite hands every call to a thread of the connection's own: a cursor to be made, a statement,
each of its rows, the cursor to be closed. Handing over costs more than most of these, and while the
loop is busy each waits for it anew. Here only what may wait for the file goes there, a statement
with all its rows at once.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import aiosqlite

_CHUNK = 64  # of rows that nobody here reads one by one


class Connection(aiosqlite.Connection):
    """Keeps the order of calls: while the thread has one, or was left with one, all go there."""

    _has_work = False

    @classmethod
    def make(cls, database: str, **options: Any) -> "Connection":
        """Give what is connected once it is awaited, with options of sqlite3.connect."""
        connection = cls(partial(sqlite3.connect, database, **options), _CHUNK)
        connection._thread.daemon = True
        return connection

    @aiosqlite.context.contextmanager
    async def cursor(self) -> aiosqlite.Cursor:
        return Cursor(self, await self.at_once(self._conn.cursor))

    async def rollback(self) -> None:
        await self.at_once(self._conn.rollback)  # of what never reached the file

    async def at_once(self, call: Callable[[], Any]) -> Any:
        """Make a call that waits for nothing."""
        return await self._execute(call) if self._has_work else call()

    async def in_turn(self, call: Callable[[], Any]) -> Any:
        """Make a call that may wait for the file, in the connection's own thread."""
        return await self._execute(call)

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._has_work = True
        try:
            done = await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        except Exception:
            self._has_work = False
            raise
        self._has_work = False  # not after a cancel: the thread goes on all the same
        return done


class Cursor(aiosqlite.Cursor):
    _connection: Connection
    _rows: Sequence[Any] = ()

    def __init__(self, connection: Connection, cursor: sqlite3.Cursor) -> None:
        super().__init__(connection, cursor)
        self._connection = connection

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> "Cursor":
        if sql == "BEGIN":  # which takes no lock before the first statement does
            await self._connection.at_once(partial(self._cursor.execute, sql))
        else:
            whole = partial(self._execute_whole, sql, list(parameters or ()))
            self._rows = await self._connection.in_turn(whole)
        return self

    async def fetchall(self) -> Sequence[Any]:
        rows, self._rows = self._rows, ()
        return rows

    async def close(self) -> None:
        await self._connection.at_once(self._cursor.close)

    def _execute_whole(self, sql: str, parameters: Sequence[Any]) -> Sequence[Any]:
        self._cursor.execute(sql, parameters)
        return self._cursor.fetchall() if self._cursor.description else ()
