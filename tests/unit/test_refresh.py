"""One read serves all who need it, until it is old."""

import asyncio
from datetime import timedelta

import pytest

from app.core.clock import ManualClock
from app.core.refresh import Refresh

FRESH_FOR = timedelta(seconds=10)


class Reader:
    """Takes a second over each read; `failure` is what it raises, if anything."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.reads = 0
        self.failure: Exception | None = None
        self.refresh = Refresh(self, fresh_for=FRESH_FOR, clock=self.clock)

    async def __call__(self) -> None:
        self.reads += 1
        self.clock.advance(timedelta(seconds=1))
        if self.failure is not None:
            raise self.failure


async def test_callers_at_the_same_time_share_one_read() -> None:
    reader = Reader()
    await asyncio.gather(*(reader.refresh() for _ in range(5)))
    assert reader.reads == 1


async def test_it_is_read_again_once_the_last_read_began_long_ago() -> None:
    reader = Reader()
    await reader.refresh()
    reader.clock.advance(FRESH_FOR - timedelta(seconds=2))
    await reader.refresh()
    assert reader.reads == 1

    reader.clock.advance(timedelta(seconds=1))
    await reader.refresh()
    assert reader.reads == 2


async def test_what_has_expired_is_read_at_once() -> None:
    reader = Reader()
    await reader.refresh()
    reader.refresh.expire()
    await reader.refresh()
    assert reader.reads == 2


async def test_a_failed_read_counts_for_nothing() -> None:
    reader = Reader()
    reader.failure = ConnectionError()
    with pytest.raises(ConnectionError):
        await reader.refresh()
    reader.failure = None
    await reader.refresh()
    assert reader.reads == 2
