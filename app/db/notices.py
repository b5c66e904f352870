"""Hears other processes' notices through Postgres: LISTEN, on a connection of its own.

This does not work through a pooler in transaction mode, which shares the connection with others; so
callers must be able to do without notices, for a while or for ever.
"""

from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import NullPool
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.clock import Clock
from app.db.engine import driver_message, parse_url
from app.db.postgres import NOTICE_A_LOST_CLIENT, dial
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
            pool_reset_on_return=None,  # by then it is about to be closed, and usually lost
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
        )
        own_error = driver_error(engine.dialect)  # which the open connection raises unwrapped
        delay = _SOON
        try:
            while True:
                began = self._clock.monotonic()
                try:
                    await self._listen(engine, on_notice)
                except (SQLAlchemyError, own_error, OSError) as exc:
                    logger.warning("notices.lost", reason=driver_message(exc))
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
            await listener.execute(NOTICE_A_LOST_CLIENT)
            await listener.execute(f"LISTEN {self._channel}")
            on_notice()
            async for _ in listener.notifies():
                on_notice()
