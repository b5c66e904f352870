"""Hears what other processes say through Postgres: LISTEN on one connection only for this.

It does not work through a pooler in transaction mode, which gives the connection to others; so
callers must be able to do without, for a while or for ever.
"""

from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import NullPool
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.clock import Clock
from app.db.engine import parse_url, words_of
from app.db.postgres import dial
from app.db.prepared import driver_error

logger = structlog.get_logger(__name__)

_SOON = timedelta(milliseconds=250)
_LONGEST = timedelta(seconds=10)


class Notices:
    """Calls `on_notice` at each NOTIFY, and once at each start: some may have been missed."""

    def __init__(self, url: str, *, channel: str, clock: Clock) -> None:
        self._url = parse_url(url)
        self._channel = channel
        self._clock = clock

    async def run(self, on_notice: Callable[[], None]) -> None:
        """Listen until cancelled; reconnect when the connection is lost, after growing waits."""
        engine = create_async_engine(
            self._url,
            poolclass=NullPool,
            connect_args={"async_creator_fn": dial},
            pool_reset_on_return=None,  # it is closed then, and mostly lost
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
        )
        own_error = driver_error(engine.dialect)  # what the open connection raises itself
        delay = _SOON
        try:
            while True:
                began = self._clock.monotonic()
                try:
                    await self._listen(engine, on_notice)
                except (SQLAlchemyError, own_error, OSError) as exc:
                    logger.warning("notices.lost", reason=words_of(exc))
                except Exception:
                    logger.exception("notices.failed")
                held = self._clock.monotonic() - began
                delay = _SOON if held > _LONGEST.total_seconds() else min(delay * 2, _LONGEST)
                await self._clock.sleep(delay)
        finally:
            await engine.dispose()

    async def _listen(self, engine: AsyncEngine, on_notice: Callable[[], None]) -> None:
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            listener = raw.driver_connection
            assert listener is not None
            await listener.execute(f"LISTEN {self._channel}")
            on_notice()
            async for _ in listener.notifies():
                on_notice()
