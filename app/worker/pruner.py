"""Deletes what has expired: old jobs and uploads, and objects that nothing refers to any more."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.db.failures import Failures

_IDLE = timedelta(minutes=1)
_BREATH = timedelta(milliseconds=100)


class Pruner:
    """Each of `chores` does one small batch and returns its size; none can hold up another."""

    def __init__(
        self, *, chores: Sequence[Callable[[], Awaitable[int]]], doorbell: Doorbell, clock: Clock
    ) -> None:
        self._chores = chores
        self._failures = Failures("pruner")
        self._doorbell = doorbell
        self._clock = clock

    async def run_once(self) -> int:
        """Do one batch of each chore and return how much was done."""
        return sum([await self._do(chore) for chore in self._chores])

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            # A pause even with a lot to do: SQLite has one writer, and clients come first.
            done = await self.run_once()
            await self._doorbell.wait(at_most=_BREATH if done else _IDLE)

    async def _do(self, chore: Callable[[], Awaitable[int]]) -> int:
        with self._failures.logged():
            return await chore()
        return 0
