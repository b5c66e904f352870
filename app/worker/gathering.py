"""Lets what is learned at about the same time be written together."""

import asyncio
from datetime import timedelta


class Gathering:
    """Callers with something to write wait briefly for those that are about to have something.

    The wait is in the event loop's time, not a Clock's: it only spares the database.
    """

    def __init__(self, *, at_most: timedelta) -> None:
        self._at_most = at_most
        self._signal: asyncio.Event | None = None

    async def wait(self) -> None:
        """Wait with all others that are waiting, until `release` or the longest wait is over."""
        if self._signal is None:
            self._signal = asyncio.Event()
            asyncio.get_running_loop().call_later(
                self._at_most.total_seconds(), self._end, self._signal
            )
        await self._signal.wait()

    def release(self) -> None:
        """End the wait: nobody else is about to have something."""
        if self._signal is not None:
            self._end(self._signal)

    def _end(self, signal: asyncio.Event) -> None:
        signal.set()
        if self._signal is signal:
            self._signal = None
