"""Postgres over the network: connections in a pool, and what they do when the server is gone."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import URL, Pool, event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.db.work import Result, Work

_READ_ONLY = "25006"  # read_only_sql_transaction
# A process that is frozen in a transaction keeps its locks, and for a lane's lock all others wait.
_FROZEN_FOR = "15s"
# A server that is cut off, and so cannot even hang up, is noticed in seconds and not in hours.
PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class PostgresConnections:
    """What is not done within `answers_within` raises TimeoutError, and loses its connection."""

    def __init__(self, url: URL, *, answers_within: timedelta) -> None:
        self._patience_s = answers_within.total_seconds()
        self._writer = _create(url, pool_size=5, max_overflow=3)
        # At READ COMMITTED each statement sees what is committed by then, in a transaction or not:
        # a read needs none, nor the two round trips that one costs.
        self._reader = _create(
            url,
            pool_size=5,
            max_overflow=2,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
        )

    @asynccontextmanager
    async def transaction(self, *, is_long: bool = False) -> AsyncIterator[AsyncConnection]:
        async with asyncio.timeout(self._patience_s), self._writer.begin() as connection:
            yield connection

    async def read(self, work: Work[Result]) -> Result:
        async with asyncio.timeout(self._patience_s), self._reader.connect() as connection:
            return await work(connection)

    look_up = read

    def pools(self) -> Mapping[str, Pool]:
        return {"writer": self._writer.pool, "reader": self._reader.pool}

    def engines(self) -> Sequence[Engine]:
        return [self._reader.sync_engine, self._writer.sync_engine]

    async def close(self) -> None:
        await self._writer.dispose()
        await self._reader.dispose()


def sqlstate(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


def _create(url: URL, **options: Any) -> AsyncEngine:
    engine = create_async_engine(
        url,
        # Parameters hold what clients sent, and errors are logged.
        hide_parameters=True,
        connect_args=PATIENCE if url.get_driver_name() == "psycopg" else {},
        **options,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        was, connection.autocommit = connection.autocommit, True  # a rollback would take it back
        cursor = connection.cursor()
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_FROZEN_FOR}'")
        cursor.close()
        connection.autocommit = was

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        # A server that takes no writes is a standby, or full; connections made anew find who does.
        if sqlstate(context.original_exception) == _READ_ONLY:
            context.is_disconnect = True

    return engine
