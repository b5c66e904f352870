"""SQLite in this process: one connection that writes, and several that read.

A statement takes microseconds if its rows are in memory; handing it to a thread takes longer, and
waits for the loop each time. So threads get only what may wait for the file or take long: waiting
for another process to end its write, each commit, reads of many rows, and transactions that say
that they are long.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from typing import Any, cast

from sqlalchemy import URL, Executable, QueuePool, Result, create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.kept import KeptFiles
from app.db.prepared import PreparedStatements, wrapped
from app.db.turns import Turns
from app.db.work import Done, Work

_READERS = 4
_TURN_WITHIN_S = 30
_LONG_TURN_WITHIN_S = 600
_FILE_WITHIN_MS = 10_000
_BREATH_S = 0.01
# Without it the write-ahead log, once empty, stays as long as one erasure or migration made it.
_LOG_BYTES = 64 * 2**20


class SqliteConnections:
    def __init__(self, url: URL) -> None:
        self._made_once = PreparedStatements()
        self._writer = KeptFiles(_create(url, pool_size=1, query_only=False))
        # One for each thread, and one for reads in the event loop, which never overlap.
        self._reader = KeptFiles(_create(url, pool_size=_READERS + 1, query_only=True))
        # Callers queue here, which is fair and cheap; waiting for the file's lock is neither.
        self._to_write = asyncio.Semaphore(1)
        self._to_read = asyncio.Semaphore(_READERS)
        self._turns = Turns()
        self._to_search = asyncio.Semaphore(_READERS // 2)
        self._to_search_long = asyncio.Semaphore(1)
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-reader")

    @asynccontextmanager
    async def transaction(self, *, is_long: bool = False) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction that writes; raise TimeoutError if its turn does not come in time."""
        async with _turn(self._to_write):
            with self._writer.connection() as connection:
                file = _file_of(connection)
                try:
                    file.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:  # another process writes
                    await _to_the_end(self._writing, partial(_begin_patiently, file))
                on = _Blocking(connection, self._made_once)
                if is_long:
                    on = _Threaded(connection, self._made_once, self._writing)
                yield on.as_connection
                await _to_the_end(self._writing, file.commit)

    async def read(self, work: Work[Done]) -> Done:
        """Run `work` in a thread, however long it takes; it may await only its statements."""
        async with _turn(self._to_read):
            loop, run = asyncio.get_running_loop(), copy_context().run
            return await loop.run_in_executor(self._reading, run, self._read_whole, work)

    async def search(
        self, work: Work[Done], *, whose: str | None = None, is_long: bool = False
    ) -> Done:
        alone = _turn(self._to_search_long, is_long=True) if is_long else nullcontext()
        turn = nullcontext() if whose is None else _turn(self._turns.of(whose))
        async with alone, turn, _turn(self._to_search):
            return await self.read(work)

    async def look_up(self, work: Work[Done]) -> Done:
        with self._snapshot() as connection:
            return await work(_Blocking(connection, self._made_once).as_connection)

    def _read_whole(self, work: Work[Done]) -> Done:
        with self._snapshot() as connection:
            steps = work(_Blocking(connection, self._made_once).as_connection).__await__()
            try:
                next(steps)
            except StopIteration as done:
                return cast("Done", done.value)
        raise RuntimeError("a read may wait only for its statements")

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        with self._reader.connection() as connection:
            file = _file_of(connection)
            file.execute("BEGIN")  # without a lock
            yield connection
            file.rollback()

    def pools(self) -> Mapping[str, Mapping[str, int]]:
        return {"writer": self._writer.use(), "reader": self._reader.use()}

    def watch(self) -> Sequence[Engine]:
        self._made_once.in_use = False
        return [self._reader.engine, self._writer.engine]

    async def close(self) -> None:
        for threads in (self._writing, self._reading):
            await asyncio.to_thread(threads.shutdown)
        self._writer.close()
        self._reader.close()


class _Blocking:
    """What we use of SQLAlchemy's AsyncConnection; each statement runs in its caller's thread."""

    def __init__(self, connection: Connection, made_once: PreparedStatements) -> None:
        self._connection = connection
        self._made_once = made_once
        self._file = _file_of(connection)
        self.dialect = connection.dialect
        self.info = connection.info

    @property
    def as_connection(self) -> AsyncConnection:
        return cast("AsyncConnection", self)

    async def execute(self, statement: Executable, parameters: Any = None) -> Result[Any]:
        return self._executed(statement, parameters)

    async def scalar(self, statement: Executable) -> Any:
        return (await self.execute(statement)).scalar()

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> Result[Any]:
        return self._connection.exec_driver_sql(statement, parameters)

    def _executed(self, statement: Executable, parameters: Any) -> Result[Any]:
        prepared = self._made_once.find(statement, self.dialect)
        if prepared is None:
            return self._connection.execute(statement, parameters)
        try:
            rows = self._file.execute(prepared.text, prepared.values(parameters)).fetchall()
        except sqlite3.Error as exc:
            raise wrapped(exc, self.dialect) from exc
        return prepared.result(rows)


class _Threaded(_Blocking):
    """The same for statements that may take long, each of which runs in another thread."""

    def __init__(
        self,
        connection: Connection,
        made_once: PreparedStatements,
        threads: ThreadPoolExecutor,
    ) -> None:
        super().__init__(connection, made_once)
        self._threads = threads

    async def execute(self, statement: Executable, parameters: Any = None) -> Result[Any]:
        call = partial(self._executed, statement, parameters)
        return await _to_the_end(self._threads, call)


def keep_log(file: sqlite3.Connection) -> None:
    """Set WAL mode, which the file remembers: readers never meet the rollback journal's locks.

    If two do so at once, SQLite refuses one without waiting, since both hold a lock already.
    """
    file.execute(f"PRAGMA busy_timeout={_FILE_WITHIN_MS}")
    give_up_at = time.monotonic() + _FILE_WITHIN_MS / 1000
    while True:
        try:
            file.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(_BREATH_S)
        else:
            return


@asynccontextmanager
async def _turn(places: asyncio.Semaphore, *, is_long: bool = False) -> AsyncIterator[None]:
    async with asyncio.timeout(_LONG_TURN_WITHIN_S if is_long else _TURN_WITHIN_S):
        await places.acquire()
    try:
        yield
    finally:
        places.release()


async def _to_the_end(threads: ThreadPoolExecutor, call: Callable[[], Done]) -> Done:
    """Wait for a call, however often cancelled: its thread goes on using the connection."""
    done = asyncio.get_running_loop().run_in_executor(threads, copy_context().run, call)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        while not done.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([done])
        done.exception()  # marked as retrieved: the caller only learns that it was cancelled
        raise


def _begin_patiently(file: sqlite3.Connection) -> None:
    file.execute(f"PRAGMA busy_timeout={_FILE_WITHIN_MS}")
    try:
        file.execute("BEGIN IMMEDIATE")
    finally:
        file.execute("PRAGMA busy_timeout=0")


def _file_of(connection: Connection) -> sqlite3.Connection:
    file = connection.connection.driver_connection
    assert isinstance(file, sqlite3.Connection)
    return file


def _create(url: URL, *, query_only: bool, **options: Any) -> Engine:
    engine = create_engine(
        url,
        # Parameters hold what clients sent, and errors are logged.
        hide_parameters=True,
        poolclass=QueuePool,
        max_overflow=0,
        connect_args={"check_same_thread": False},
        **options,
    )

    @event.listens_for(engine, "connect")
    def connect(file: sqlite3.Connection, _record: object) -> None:
        # The driver's own handling begins transactions late, and silently loses updates.
        file.isolation_level = None
        keep_log(file)
        for pragma in (
            f"journal_size_limit={_LOG_BYTES}",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"query_only={'ON' if query_only else 'OFF'}",
            f"busy_timeout={_FILE_WITHIN_MS if query_only else 0}",  # see _begin_patiently
        ):
            file.execute(f"PRAGMA {pragma}")

    return engine
