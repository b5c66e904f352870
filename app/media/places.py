"""A limit on what runs at a time, in total and for each caller."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from app.media.errors import MediaBusyError


class Places:
    def __init__(self, *, overall: int, each: int, patience: timedelta) -> None:
        self._overall = asyncio.Semaphore(overall)
        self._each = each
        self._patience = patience.total_seconds()
        self._lines: dict[str, _Line] = {}

    def waiting(self, caller: str) -> int:
        """Return how many of a caller's have a place or wait for one."""
        return self._lines[caller].members if caller in self._lines else 0

    @asynccontextmanager
    async def one(self, caller: str) -> AsyncIterator[None]:
        """Wait for a place, or raise MediaBusyError when patience is at its end."""
        line = self._lines.setdefault(caller, _Line(asyncio.Semaphore(self._each)))
        line.members += 1
        try:
            # Only callers with a place of their own wait for a shared one: none fills that line.
            async with self._held(line.places), self._held(self._overall):
                yield
        finally:
            line.members -= 1
            if not line.members:
                del self._lines[caller]

    @asynccontextmanager
    async def _held(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await places.acquire()
        except TimeoutError as exc:
            raise MediaBusyError from exc
        try:
            yield
        finally:
            places.release()


@dataclass(slots=True)
class _Line:
    places: asyncio.Semaphore
    members: int = 0
