"""Records every few seconds that this process's workers look for work, as long as they do."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.db.outage import Outages
from app.jobs.health import ALIVE_FOR, BEAT_EVERY, HealthService

logger = structlog.get_logger(__name__)


class Looker(Protocol):
    """`looked_at` is when it last asked for work and got an answer, on the monotonic clock."""

    looked_at: float

    @property
    def waits_for_database(self) -> bool: ...


class Heart:
    """A process whose loops hang stops beating, though it may still answer requests."""

    def __init__(
        self,
        *,
        health: HealthService,
        worker: str,
        loops: Sequence[Looker],
        doorbell: Doorbell,
        clock: Clock,
    ) -> None:
        self._health = health
        self._outages = Outages("heart")
        self._worker = worker
        self._loops = loops
        self._doorbell = doorbell
        self._clock = clock

    async def run_once(self) -> bool:
        """Beat if all is well; return whether it is."""
        since = self._clock.monotonic() - ALIVE_FOR.total_seconds()
        late = [loop for loop in self._loops if loop.looked_at <= since]
        if late:
            if not all(loop.waits_for_database for loop in late):  # that was logged already
                logger.error("worker.hangs", worker=self._worker)
            return False
        await self._health.beat(self._worker)
        return True

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                with self._outages.noted():
                    await self.run_once()
            except DatabaseUnavailableError:
                pass
            except Exception:
                logger.exception("worker.beat_failed")
            await self._doorbell.wait(at_most=BEAT_EVERY)
