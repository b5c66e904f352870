"""Wakes a loop of this process when there is work, so that nothing waits for the next round."""

import asyncio
from datetime import timedelta

from app.core.clock import Clock


class Doorbell:
    """Rings are not counted: one wake-up serves all. A lost ring costs one idle wait."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, *, at_most: timedelta) -> None:
        """Return at the next ring, or after `at_most`."""
        async with asyncio.TaskGroup() as group:
            alarm = group.create_task(self._ring_after(at_most))
            await self._rung.wait()
            alarm.cancel()
        self._rung.clear()

    async def _ring_after(self, delay: timedelta) -> None:
        await self._clock.sleep(delay)
        self.ring()
