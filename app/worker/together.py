"""Writes together what is learned at about the same time."""

import asyncio
from datetime import timedelta


class Together:
    """Callers with something to write wait briefly for those about to have something.

    The wait is in the loop's own time: it spares the database, and means nothing to a job.
    """

    def __init__(self, *, at_most: timedelta) -> None:
        self._at_most = at_most
        self._signal: asyncio.Event | None = None

    async def wait(self) -> None:
        """Wait with all others that wait now, until `go` or the end of the wait."""
        if self._signal is None:
            self._signal = asyncio.Event()
            asyncio.get_running_loop().call_later(
                self._at_most.total_seconds(), self._release, self._signal
            )
        await self._signal.wait()

    def go(self) -> None:
        """Say that nobody else is about to have something."""
        if self._signal is not None:
            self._release(self._signal)

    def _release(self, signal: asyncio.Event) -> None:
        signal.set()
        if self._signal is signal:
            self._signal = None
