"""Engines for SQLite and Postgres that keep what they promise, and the one way to use them."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import URL, event, make_url
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeoutError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from app.core.errors import ConfigurationError, DatabaseUnavailableError
from app.db import sqlite

Result = TypeVar("Result")

_TRIES = 4
_NEWS = "news"
_RIVALS = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_READ_ONLY = "25006"  # read_only_sql_transaction
# A process that is frozen in a transaction keeps its locks, and for a lane's lock all others wait.
_FROZEN_FOR = "15s"
# Longer than that, and for a server that is frozen itself: to TCP it looks well.
_ANSWERS_WITHIN = timedelta(seconds=20)
# A server that is cut off, and so cannot even hang up, is noticed in seconds and not in hours.
PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class Database:
    """One database: transactions that write, and reads that never wait for a writer.

    What is not done within `answers_within` is given up, as if the connection had been lost.
    """

    def __init__(
        self,
        *,
        writer: AsyncEngine,
        reader: AsyncEngine,
        answers_within: timedelta | None = None,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._patience_s = None if answers_within is None else answers_within.total_seconds()
        self.on_news: Callable[[], None] = _nobody_listens
        """Called after a commit whose transaction said `tell_after_commit`."""

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        """Run `work` in one transaction, again from the start when a rival got in between."""
        for tries_left in reversed(range(_TRIES)):
            try:
                async with asyncio.timeout(self._patience_s), self._writer.begin() as tx:
                    tx.info.pop(_NEWS, None)
                    done = await work(tx)
                    has_news = tx.info.pop(_NEWS, False)
                if has_news:
                    self.on_news()
                return done  # noqa: TRY300 - an else would hide what is tried
            except DBAPIError as exc:
                if not (_is_lost_race(exc) and tries_left):
                    raise _translated(exc) from exc
            except (PoolTimeoutError, TimeoutError) as exc:
                raise DatabaseUnavailableError from exc
        raise AssertionError("the last try returns or raises")

    async def read(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        """Run `work`, which must not write; on SQLite all of it sees one state of the data."""
        try:
            async with asyncio.timeout(self._patience_s), self._reader.connect() as connection:
                return await work(connection)
        except DBAPIError as exc:
            raise _translated(exc) from exc
        except (PoolTimeoutError, TimeoutError) as exc:
            raise DatabaseUnavailableError from exc

    def pools(self) -> Mapping[str, Mapping[str, int]]:
        """Tell of each pool how many connections it may have, and how many are in use."""
        pools = {"writer": self._writer.pool}
        if self._reader.pool is not self._writer.pool:
            pools["reader"] = self._reader.pool
        return {
            name: {"in_use": pool.checkedout(), "size": pool.size()}
            for name, pool in pools.items()
            if isinstance(pool, QueuePool)
        }

    @property
    def engines(self) -> Sequence[Engine]:
        """Give what statements pass through, each once."""
        engines = {each.pool: each.sync_engine for each in (self._reader, self._writer)}
        return list(engines.values())

    async def close(self) -> None:
        await self._writer.dispose()
        if self._reader.pool is not self._writer.pool:
            await self._reader.dispose()


def tell_after_commit(tx: AsyncConnection) -> None:
    """Let `on_news` be called in this process once `tx` is committed: SQLite has no NOTIFY."""
    tx.info[_NEWS] = True


def open_database(url: str, *, answers_within: timedelta = _ANSWERS_WITHIN) -> Database:
    """Open `sqlite:///path` or `postgresql://...`; nothing is connected before the first use.

    SQLite, which is this process itself, has no time to answer within.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        # One connection that writes: callers queue in the process, where it is fair and cheap,
        # and not on the file's lock, where it is neither.
        writer = _create(parsed, pool_size=1, max_overflow=0, pool_timeout=30)
        reader = _create(parsed, pool_size=4, max_overflow=0, pool_timeout=30)
        _set_up_sqlite(writer, begin="BEGIN IMMEDIATE", query_only=False)
        _set_up_sqlite(reader, begin="BEGIN", query_only=True)
        return Database(writer=writer, reader=reader)
    engine = _create(
        parsed,
        pool_size=10,
        max_overflow=5,
        pool_pre_ping=True,
        connect_args=PATIENCE if parsed.get_driver_name() == "psycopg" else {},
    )
    _set_up_postgres(engine)
    # At READ COMMITTED each statement sees what is committed by then, in a transaction or not: a
    # read needs none, nor the two round trips that one costs.
    reader = engine.execution_options(isolation_level="AUTOCOMMIT")
    return Database(writer=engine, reader=reader, answers_within=answers_within)


def parse_url(url: str) -> URL:
    """Name the asynchronous driver in a database URL, or say what is wrong with it."""
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigurationError(
            "GATEWAY_DATABASE_URL is not a database URL;"
            " use sqlite:///gateway.db or postgresql://user:password@host/name."
        ) from exc
    match parsed.drivername:
        case "sqlite" if parsed.database not in (None, "", ":memory:"):
            return parsed.set(drivername="sqlite+aiosqlite")
        case "sqlite":
            raise ConfigurationError(
                "GATEWAY_DATABASE_URL names no file; jobs must outlive the process,"
                " so use sqlite:///gateway.db."
            )
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case "postgresql+psycopg" | "postgresql+asyncpg":
            return parsed
        case other:
            raise ConfigurationError(
                f"GATEWAY_DATABASE_URL asks for {other!r};"
                " the gateway runs on sqlite:/// and postgresql:// only."
            )


def _nobody_listens() -> None:
    pass


def _create(url: URL, **options: Any) -> AsyncEngine:
    # Parameters hold what clients sent, and errors are logged.
    return create_async_engine(url, hide_parameters=True, **options)


def _set_up_sqlite(engine: AsyncEngine, *, begin: str, query_only: bool) -> None:
    @event.listens_for(engine.sync_engine, "do_connect")
    def choose(_dialect: object, _record: object, _args: object, options: dict[str, Any]) -> None:
        options["async_creator_fn"] = sqlite.Connection.make

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        # The driver's own transaction handling starts them late and loses updates without a word.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "busy_timeout=10000",
            "foreign_keys=ON",
            f"query_only={'ON' if query_only else 'OFF'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _set_up_postgres(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.autocommit = True  # else the first rollback would take it back
        cursor = connection.cursor()
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_FROZEN_FOR}'")
        cursor.close()
        connection.autocommit = False

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        # A server that takes no writes is a standby, or full; connections made anew find who does.
        if _sqlstate(context.original_exception) == _READ_ONLY:
            context.is_disconnect = True


def _is_lost_race(exc: DBAPIError) -> bool:
    return isinstance(exc, IntegrityError) or _sqlstate(exc.orig) in _RIVALS


def _sqlstate(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


def _translated(exc: DBAPIError) -> Exception:
    """Tell a database that is away from a bug in what we asked of it."""
    if exc.connection_invalidated:
        return DatabaseUnavailableError()
    if isinstance(exc.orig, sqlite3.OperationalError):
        # "no such table" and the like are bugs; locked, full and unreadable are not.
        return (
            exc if exc.orig.sqlite_errorcode == sqlite3.SQLITE_ERROR else DatabaseUnavailableError()
        )
    if isinstance(exc, OperationalError | InterfaceError):
        return DatabaseUnavailableError()
    return exc
