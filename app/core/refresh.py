"""What is read again once it is old, by one of those who need it for all of them."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from app.core.clock import Clock
from app.core.natural_batch import NaturalBatch


class Refresh:
    """Runs `read` unless that was begun less than `fresh_for` ago; one run serves all callers."""

    def __init__(
        self, read: Callable[[], Awaitable[object]], *, fresh_for: timedelta, clock: Clock
    ) -> None:
        self._read = read
        self._fresh_for_s = fresh_for.total_seconds()
        self._clock = clock
        self._fresh_until = float("-inf")
        self._shared_read = NaturalBatch(self._read_for)

    async def __call__(self) -> None:
        if self._clock.monotonic() >= self._fresh_until:
            await self._shared_read(None)

    def expire(self) -> None:
        """Have the next caller read in any case."""
        self._fresh_until = float("-inf")

    async def _read_for(self, waiting: Sequence[None]) -> Sequence[None]:
        """Read, unless that was done while these callers waited for their turn."""
        began_at = self._clock.monotonic()
        if began_at >= self._fresh_until:
            await self._read()
            self._fresh_until = began_at + self._fresh_for_s
        return waiting
