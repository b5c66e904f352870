"""The only way to use the database, SQLite or Postgres: what it promises, and its errors."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Protocol

from sqlalchemy import URL, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeoutError,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import ConfigurationError, DatabaseUnavailableError
from app.db.postgres import PATIENCE, PostgresConnections, sqlstate
from app.db.sqlite import SqliteConnections
from app.db.work import Done, Work

_TRIES = 4
_NEWS = "news"
_RIVALS = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_NO_PRIVILEGE = "42501"  # insufficient_privilege
_SERVER_ERRORS = (OperationalError, InterfaceError, InternalError)
_FAILURES = (DBAPIError, sqlite3.Error, PoolTimeoutError, TimeoutError)
# A limit of our own, since to TCP a frozen server looks healthy.
_ANSWERS_WITHIN = timedelta(seconds=20)


class Connections(Protocol):
    """What differs between the two databases; neither retries anything by itself."""

    def transaction(
        self, *, is_long: bool = False
    ) -> AbstractAsyncContextManager[AsyncConnection]: ...

    async def read(self, work: Work[Done]) -> Done: ...

    async def look_up(self, work: Work[Done]) -> Done: ...

    async def search(
        self, work: Work[Done], *, whose: str | None = None, is_long: bool = False
    ) -> Done: ...

    def pools(self) -> Mapping[str, Mapping[str, int]]: ...

    def watch(self) -> Sequence[Engine]: ...

    async def close(self) -> None: ...


class Database:
    """One database: transactions that write, and reads that never wait for a writer."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.on_news: Callable[[], None] = _nobody_listens
        """Called after the commit of a transaction that called `tell_after_commit`."""

    async def transact(self, work: Work[Done], *, is_long: bool = False) -> Done:
        """Run `work` in one transaction, and again from the start if a rival interfered.

        Also if the connection turns out to be lost before the commit: then nothing was done.
        `is_long` is for statements on more than a few hundred rows.
        """
        for tries_left in reversed(range(_TRIES)):
            is_ending = False
            try:
                async with self._connections.transaction(is_long=is_long) as tx:
                    tx.info.pop(_NEWS, None)
                    done = await work(tx)
                    has_news = tx.info.pop(_NEWS, False)
                    is_ending = True
                if has_news:
                    self.on_news()
                return done  # noqa: TRY300 - an else would hide what is tried
            except _FAILURES as exc:
                is_stale = _is_stale(exc) and not is_ending and tries_left == _TRIES - 1
                if not (is_stale or (_is_lost_race(exc) and tries_left)):
                    raise _translated(exc, is_unsure=is_ending and _is_silent(exc)) from exc
        raise AssertionError("the last try returns or raises")

    async def read(self, work: Work[Done]) -> Done:
        """Run `work`, which must not write; on SQLite all of it sees one snapshot of the data."""
        return await _read(self._connections.read, work)

    async def look_up(self, work: Work[Done]) -> Done:
        """Read a few rows by their keys; on SQLite this blocks the event loop."""
        return await _read(self._connections.look_up, work)

    async def search(
        self, work: Work[Done], *, whose: str | None = None, is_long: bool = False
    ) -> Done:
        """Read what may take long, depending on the caller, leaving half of the readers to others.

        Of the searches of one user, `whose` they are, only one runs at a time. `is_long` is for
        statements that scan whole tables: of these, too, only one runs at a time.
        """
        search = partial(self._connections.search, whose=whose, is_long=is_long)
        return await _read(search, work)

    def pools(self) -> Mapping[str, Mapping[str, int]]:
        """Return how many connections each pool may have, and how many are in use."""
        return self._connections.pools()

    def watch(self) -> Sequence[Engine]:
        """Send every statement through SQLAlchemy from now on, and return its engines.

        Their events see each statement; this makes each statement slower.
        """
        return self._connections.watch()

    async def close(self) -> None:
        await self._connections.close()


def tell_after_commit(tx: AsyncConnection) -> None:
    """Call `on_news` in this process once `tx` is committed: SQLite has no NOTIFY."""
    tx.info[_NEWS] = True


def open_database(url: str, *, answers_within: timedelta = _ANSWERS_WITHIN) -> Database:
    """Open `sqlite:///path` or `postgresql://...`; nothing is connected before the first use.

    Whatever Postgres has not done within `answers_within` is given up as if the connection had been
    lost; SQLite, which runs in this process, needs no such limit.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(SqliteConnections(parsed))
    return Database(PostgresConnections(parsed, answers_within=answers_within))


@asynccontextmanager
async def opened_database(url: str) -> AsyncIterator[Database]:
    """Do what `open_database` does, and close the database in the end."""
    database = open_database(url)
    try:
        yield database
    finally:
        await database.close()


def parse_url(url: str) -> URL:
    """Name the driver in a database URL, or say what is wrong with it."""
    try:
        parsed = make_url(url)
        if "@" in (parsed.host or ""):  # the part before it belongs to the password
            raise ValueError  # noqa: TRY301 - one sentence for both
    except (ArgumentError, ValueError):  # their messages may quote part of the password
        raise ConfigurationError(
            "GATEWAY_DATABASE_URL is not a database URL;"
            " use sqlite:///gateway.db or postgresql://user:password@host/name, where @, : and /"
            " in a password are written as %40, %3A and %2F; several hosts with ports as"
            " postgresql://user:password@/name?host=one:5432&host=two:5432."
        ) from None
    match parsed.drivername:
        case "sqlite" if parsed.database not in (None, "", ":memory:"):
            return parsed
        case "sqlite":
            raise ConfigurationError(
                "GATEWAY_DATABASE_URL names no file; jobs must outlive the process,"
                " so use sqlite:///gateway.db."
            )
        case "postgresql" | "postgres" | "postgresql+psycopg":
            query = PATIENCE | dict(parsed.query) | {"client_encoding": "utf8"}
            return parsed.set(drivername="postgresql+psycopg", query=query)
        case other:
            raise ConfigurationError(
                f"GATEWAY_DATABASE_URL asks for {other!r};"
                " the gateway runs on sqlite:/// and postgresql:// only."
            )


def driver_message(exc: BaseException) -> str:
    """Return the first line of the driver's message; SQLAlchemy's includes the statement."""
    return str(exc.orig if isinstance(exc, DBAPIError) else exc).partition("\n")[0]


def _nobody_listens() -> None:
    pass


async def _read(read: Callable[[Work[Done]], Awaitable[Done]], work: Work[Done]) -> Done:
    """Read, once more if the connection was lost since its last use."""
    try:
        return await read(work)
    except _FAILURES as exc:
        if not _is_stale(exc):
            raise _translated(exc) from exc
    try:
        return await read(work)
    except _FAILURES as exc:
        raise _translated(exc) from exc


def _is_stale(exc: Exception) -> bool:
    """Whether the connection was lost, after which the pool replaces all connections."""
    return isinstance(exc, DBAPIError) and exc.connection_invalidated


def _is_silent(exc: Exception) -> bool:
    """Whether the server has not answered, rather than refused."""
    return isinstance(exc, TimeoutError) or _is_stale(exc)


def _is_lost_race(exc: Exception) -> bool:
    return isinstance(exc, IntegrityError) or sqlstate(getattr(exc, "orig", None)) in _RIVALS


def _translated(exc: Exception, *, is_unsure: bool = False) -> Exception:
    """Return DatabaseUnavailableError, or the error itself if our statement is to blame."""
    away = DatabaseUnavailableError(
        is_unsure=is_unsure, reason=driver_message(exc.__cause__ or exc)
    )
    if not isinstance(exc, DBAPIError):  # no turn, no answer, or a file that is locked
        return away
    is_away = isinstance(exc, _SERVER_ERRORS) or sqlstate(exc.orig) == _NO_PRIVILEGE
    if isinstance(exc.orig, sqlite3.OperationalError):
        # "no such table" and the like are bugs; locked, full and unreadable are not.
        is_away = exc.orig.sqlite_errorcode != sqlite3.SQLITE_ERROR
    return away if is_away or exc.connection_invalidated else exc
