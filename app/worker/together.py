"""Lets what is learned at about the same time be written at the same time."""

import asyncio
from datetime import timedelta


class Together:
    """Those who know something wait for those who are about to, but for a short while only.

    The while is the loop's own time: it spares the database work, and means nothing to a job.
    """

    def __init__(self, *, at_most: timedelta) -> None:
        self._at_most = at_most
        self._signal: asyncio.Event | None = None

    async def wait(self) -> None:
        """Wait with all others that wait now, until `go` or the end of the while."""
        if self._signal is None:
            self._signal = asyncio.Event()
            asyncio.get_running_loop().call_later(
                self._at_most.total_seconds(), self._release, self._signal
            )
        await self._signal.wait()

    def go(self) -> None:
        """Tell that nobody else is about to know something."""
        if self._signal is not None:
            self._release(self._signal)

    def _release(self, signal: asyncio.Event) -> None:
        signal.set()
        if self._signal is signal:
            self._signal = None
