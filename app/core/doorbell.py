"""Tells a loop of this process that there is work, so that nothing waits for the next round."""

import asyncio
from datetime import timedelta

from app.core.clock import Clock


class Doorbell:
    """Rings are not counted: one answer serves all of them. A lost ring costs one idle wait."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, *, at_most: timedelta) -> None:
        """Return at the next ring, or after `at_most`."""
        async with asyncio.TaskGroup() as group:
            alarm = group.create_task(self._clock.sleep(at_most))
            ring = group.create_task(self._rung.wait())
            await asyncio.wait({alarm, ring}, return_when=asyncio.FIRST_COMPLETED)
            alarm.cancel()
            ring.cancel()
        self._rung.clear()
