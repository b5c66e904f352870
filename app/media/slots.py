"""A limit on what runs at once, in total and for each caller."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from app.media.errors import MediaBusyError


class Slots:
    def __init__(self, *, overall: int, each: int, patience: timedelta) -> None:
        self._overall = asyncio.Semaphore(overall)
        self._each = each
        self._patience = patience.total_seconds()
        self._callers: dict[str, _Caller] = {}

    def claimed(self, caller: str) -> int:
        """Return how many slots a caller has or waits for."""
        return self._callers[caller].claimed if caller in self._callers else 0

    @asynccontextmanager
    async def slot(self, caller: str) -> AsyncIterator[None]:
        """Wait for a slot, or raise MediaBusyError when patience runs out."""
        mine = self._callers.setdefault(caller, _Caller(asyncio.Semaphore(self._each)))
        mine.claimed += 1
        try:
            # The caller's own first, so that nobody fills the queue for the shared ones.
            async with self._acquired(mine.slots), self._acquired(self._overall):
                yield
        finally:
            mine.claimed -= 1
            if not mine.claimed:
                del self._callers[caller]

    @asynccontextmanager
    async def _acquired(self, slots: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await slots.acquire()
        except TimeoutError as exc:
            raise MediaBusyError from exc
        try:
            yield
        finally:
            slots.release()


@dataclass(slots=True)
class _Caller:
    slots: asyncio.Semaphore
    claimed: int = 0
