"""Time as an argument: the one place that reads the system's clock."""

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the time of day, aware and in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some fixed instant; never steps backwards."""
        ...

    async def sleep(self, delay: timedelta) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the clock

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay: timedelta) -> None:
        await asyncio.sleep(delay.total_seconds())  # noqa: TID251 - this is the clock


class ManualClock:
    """A clock that a test moves by hand; sleepers wake in order when their time has come."""

    def __init__(self, start: datetime = datetime(2026, 11, 22, 10, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed = timedelta()
        self._sleepers: list[tuple[timedelta, int, asyncio.Event]] = []
        self._order = itertools.count()

    @property
    def has_sleepers(self) -> bool:
        return bool(self._sleepers)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed.total_seconds()

    async def sleep(self, delay: timedelta) -> None:
        if delay <= timedelta():
            await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
            return
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self._elapsed + delay, next(self._order), woken))
        await woken.wait()

    def advance(self, delay: timedelta) -> None:
        self._now += delay
        self._elapsed += delay
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            heapq.heappop(self._sleepers)[2].set()
