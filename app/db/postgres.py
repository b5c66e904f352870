"""Postgres over the network: pooled connections, and what they do when the server is gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import timedelta
from traceback import clear_frames
from typing import Any, TypeVar, cast

from sqlalchemy import URL, Executable, Result, event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.db.kept import KeptConnections
from app.db.patience import within
from app.db.prepared import Prepared, PreparedStatements, driver_error, wrapped
from app.db.turns import Turns
from app.db.work import Done, Work

Answer = TypeVar("Answer")

_WRITERS, _READERS = 8, 7
_READ_ONLY = "25006"  # read_only_sql_transaction
# A process that freezes in a transaction keeps its locks, and all others wait for a lane's lock.
_FROZEN_FOR = "15s"
# Connection options. A server that is cut off, and so cannot even hang up, is noticed in seconds,
# not hours, and the next of several hosts is tried before a look-up is given up.
PATIENCE = {
    "connect_timeout": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
# The same for the other end: until the server finds out that a client was cut off, what that had
# begun keeps its locks, and the connection its place. Without TCP it takes no notice of these.
NOTICE_A_LOST_CLIENT = "SELECT " + ", ".join(
    f"set_config('tcp_{name.removeprefix('tcp_')}', '{value}', false)"
    for name, value in PATIENCE.items()
    if name != "connect_timeout"
)
_LONG = 30
_IS_POOLED = "is_pooled"
# Statements that we do not prepare are planned for their own values, however often they are run.
_PSYCOPGS = {"prepare_threshold": 1_000_000_000}


async def dial(*arguments: Any, **options: Any) -> Any:
    """Connect, or hang up at once.

    psycopg's frame and the failures it keeps, one for each host, refer to each other, and keep the
    half-open connections alive: a server, even one that is stopping, would wait for us until the
    garbage is collected here, or for a minute.
    """
    from psycopg import AsyncConnection  # noqa: PLC0415 - not installed where SQLite is enough

    try:
        return await AsyncConnection.connect(*arguments, **options)
    except BaseException as exc:
        clear_frames(exc.__traceback__)
        raise


class PostgresConnections:
    """What takes longer than `answers_within` raises TimeoutError, and its connection is closed.

    `is_long` allows thirty times as much: for example to erase a user with years of jobs.
    """

    def __init__(self, url: URL, *, answers_within: timedelta) -> None:
        self._patience = answers_within
        self._made_once = PreparedStatements()
        self._writer = KeptConnections(_create(url, pool_size=_WRITERS))
        # At READ COMMITTED each statement sees what is committed by then, in a transaction or not:
        # reads need no transaction, nor the two round trips that it costs.
        reader = _create(url, pool_size=_READERS, skip_autocommit_rollback=True)
        self._reader = KeptConnections(reader)
        self._turns = Turns()
        self._to_search = asyncio.Semaphore(_READERS // 2)
        self._to_search_long = asyncio.Semaphore(1)

    @asynccontextmanager
    async def transaction(self, *, is_long: bool = False) -> AsyncIterator[AsyncConnection]:
        async with (
            within(self._patience_for(is_long=is_long)),
            self._writer.connection() as connection,
            AsyncExitStack() as leaving,
        ):
            transaction = _Transaction(connection, self._made_once, leaving)
            await transaction.begin()
            yield transaction.as_connection
            await transaction.commit()

    async def read(self, work: Work[Done]) -> Done:
        async with within(self._patience):
            return await self._read(work)

    async def search(
        self, work: Work[Done], *, whose: str | None = None, is_long: bool = False
    ) -> Done:
        alone = self._to_search_long if is_long else nullcontext()
        turn = nullcontext() if whose is None else self._turns.of(whose)
        async with within(self._patience_for(is_long=is_long)), alone, turn, self._to_search:
            return await self._read(work)

    async def look_up(self, work: Work[Done]) -> Done:
        async with within(self._patience / 4):  # it waits neither for locks nor for many rows
            return await self._read(work)

    async def _read(self, work: Work[Done]) -> Done:
        async with self._reader.connection() as connection:
            return await work(_Direct(connection, self._made_once).as_connection)

    def _patience_for(self, *, is_long: bool) -> timedelta:
        return self._patience * (_LONG if is_long else 1)

    def pools(self) -> Mapping[str, Mapping[str, int]]:
        return {"writer": self._writer.use(), "reader": self._reader.use()}

    def watch(self) -> Sequence[Engine]:
        self._made_once.in_use = False
        return [self._reader.engine.sync_engine, self._writer.engine.sync_engine]

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()


class _Direct:
    """What we use of SQLAlchemy's AsyncConnection; prepared statements go straight to psycopg."""

    def __init__(self, connection: AsyncConnection, made_once: PreparedStatements) -> None:
        self._connection = connection
        self._made_once = made_once
        self.dialect = connection.dialect
        self.info = connection.info
        assert connection.sync_connection is not None
        self._driver: Any = connection.sync_connection.connection.driver_connection

    @property
    def as_connection(self) -> AsyncConnection:
        return cast("AsyncConnection", self)

    async def execute(self, statement: Executable, parameters: Any = None) -> Result[Any]:
        prepared = self._made_once.find(statement, self.dialect)
        if prepared is None:
            return await (await self._plain()).execute(statement, parameters)
        cursor = await self._noticed(self._send(prepared, prepared.values(parameters)))
        return prepared.result(await self._noticed(cursor.fetchall()) if prepared.has_rows else ())

    async def scalar(self, statement: Executable) -> Any:
        return (await self.execute(statement)).scalar()

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> Result[Any]:
        return await (await self._plain()).exec_driver_sql(statement, parameters)

    async def _plain(self) -> AsyncConnection:
        return self._connection

    async def _send(self, prepared: Prepared, values: Any) -> Any:
        may_keep = not self.info[_IS_POOLED]
        return await self._driver.execute(prepared.text, values, prepare=may_keep)

    async def _noticed(self, answer: Awaitable[Answer]) -> Answer:
        """Wait for the driver, and tell SQLAlchemy of failures it would have noticed itself."""
        try:
            return await answer
        except asyncio.CancelledError:
            await self._connection.invalidate()  # its statement may still be running
            raise
        except driver_error(self.dialect) as exc:
            first = self._first(exc)
            raise await self._failure(first) from first

    def _first(self, error: BaseException) -> Any:
        """Find what failed first: leaving a pipeline raises only its last error."""
        before = error.__context__
        return self._first(before) if isinstance(before, driver_error(self.dialect)) else error

    async def _failure(self, exc: Any) -> DBAPIError:
        # A server that is about to hang up says so first.
        if _is_read_only(exc) or exc.diag.severity_nonlocalized == "FATAL":
            await self._driver.close()
        if self._driver.closed:
            try:  # nothing is sent: SQLAlchemy finds it lost, too, and replaces all connections
                await self._connection.exec_driver_sql("SELECT 1")
            except DBAPIError as lost:
                return lost
        return wrapped(exc, self.dialect)


class _Transaction(_Direct):
    """Waits only for the first answer, and for those with rows, before the next statement."""

    def __init__(
        self, connection: AsyncConnection, made_once: PreparedStatements, leaving: AsyncExitStack
    ) -> None:
        super().__init__(connection, made_once)
        self._leaving = leaving
        self._pipeline: Any = None
        self._is_answered = False

    async def begin(self) -> None:
        self._pipeline = await self._noticed(
            self._leaving.enter_async_context(self._driver.pipeline())
        )
        # Whatever the server's default: whoever waited for a lock must see what its holder did.
        await self._noticed(self._driver.execute("BEGIN ISOLATION LEVEL READ COMMITTED"))

    async def commit(self) -> None:
        await self._noticed(self._driver.execute("COMMIT"))
        await self._leave()

    async def _plain(self) -> AsyncConnection:
        await self._leave()  # SQLAlchemy waits for each answer
        return self._connection

    async def _leave(self) -> None:
        self._pipeline = None
        await self._noticed(self._leaving.aclose())

    async def _send(self, prepared: Prepared, values: Any) -> Any:
        """Send it, and a sync: without one Postgres stays active, and no time-out frees its locks.

        The first answer is always waited for, so that a lost connection is noticed while it is
        certain that nothing was done.
        """
        cursor = await super()._send(prepared, values)
        if self._pipeline is None:
            return cursor
        if self._driver.pgconn.flush():
            # Part of a long statement is still here, and psycopg would wait for its answer.
            await self._driver.wait(_rest(self._driver.pgconn))
        if prepared.has_rows or not self._is_answered:
            await self._pipeline.sync()
            self._is_answered = True
        else:  # what `sync` does, without its wait
            self._driver.pgconn.pipeline_sync()
            self._pipeline.result_queue.append(None)
        return cursor


def _rest(connection: Any) -> Any:
    """Return what psycopg waits for to send the rest of the buffer."""
    from psycopg.generators import send  # noqa: PLC0415 - not installed where SQLite is enough

    return send(connection)


def sqlstate(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


def _is_read_only(error: BaseException) -> bool:
    """Whether the server takes no writes: it is a standby, or full."""
    return sqlstate(error) == _READ_ONLY


def _create(url: URL, **options: Any) -> AsyncEngine:
    engine = create_async_engine(
        url,
        # Parameters hold what clients sent, and errors are logged.
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        max_overflow=0,
        connect_args={"async_creator_fn": dial} | _PSYCOPGS,
        **options,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, record: ConnectionPoolEntry) -> None:
        was, connection.autocommit = connection.autocommit, True  # a rollback would undo it
        cursor = connection.cursor()
        # A pooler reports a process id of its own. It shares the server's connections, where others
        # would run what was prepared here in place of their own statement of the same name.
        cursor.execute("SELECT pg_backend_pid()")
        own = (connection.driver_connection.info.backend_pid,)
        record.info[_IS_POOLED] = cursor.fetchone() != own
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_FROZEN_FOR}'")
        cursor.execute(NOTICE_A_LOST_CLIENT)
        cursor.execute("SET jit = off")  # with large tables it adds 50 ms to a query of 1 ms
        cursor.close()
        connection.autocommit = was

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        # New connections find the server that takes writes.
        if context.original_exception and _is_read_only(context.original_exception):
            context.is_disconnect = True

    return engine
