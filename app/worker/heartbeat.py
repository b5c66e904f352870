"""Records every few seconds that this process's workers are looking for work, while they are."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.db.failures import Failures
from app.jobs.operations.health import ALIVE_FOR, BEAT_EVERY, HealthService
from app.worker.loop import WorkLoop

logger = structlog.get_logger(__name__)


class Heartbeat:
    """A process with a loop that hangs stops beating, though it may still answer requests."""

    def __init__(
        self,
        *,
        health: HealthService,
        worker: str,
        loops: Sequence[WorkLoop[Any]],
        doorbell: Doorbell,
        clock: Clock,
    ) -> None:
        self._health = health
        self._failures = Failures("heartbeat")
        self._worker = worker
        self._loops = loops
        self._doorbell = doorbell
        self._clock = clock

    async def run_once(self) -> bool:
        """Beat if all is well; return whether it is."""
        since = self._clock.monotonic() - ALIVE_FOR.total_seconds()
        late = [loop for loop in self._loops if loop.looked_at <= since]
        if late:
            if not all(loop.failures.is_database_away for loop in late):  # that was logged already
                logger.error("worker.hangs", worker=self._worker)
            return False
        await self._health.beat(self._worker)
        return True

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with self._failures.logged():
                await self.run_once()
            await self._doorbell.wait(at_most=BEAT_EVERY)
