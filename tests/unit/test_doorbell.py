"""A ring wakes who waits, and one that came before is not lost."""

import asyncio
from datetime import timedelta

from app.core.clock import ManualClock
from app.core.doorbell import Doorbell
from tests.support.turns import turns

WITHIN_S = 60
LONG = timedelta(hours=1)


async def test_a_ring_ends_the_wait() -> None:
    bell = Doorbell(clock=ManualClock())
    waiting = asyncio.ensure_future(bell.wait(at_most=LONG))
    await turns()
    assert not waiting.done()
    bell.ring()
    await asyncio.wait_for(waiting, WITHIN_S)


async def test_a_ring_before_the_wait_counts_and_many_count_as_one() -> None:
    bell = Doorbell(clock=ManualClock())
    for _ in range(3):
        bell.ring()
    await asyncio.wait_for(bell.wait(at_most=LONG), WITHIN_S)
    again = asyncio.ensure_future(bell.wait(at_most=LONG))
    await turns()
    assert not again.done()
    bell.ring()
    await asyncio.wait_for(again, WITHIN_S)


async def test_without_a_ring_the_wait_ends_by_the_clock() -> None:
    clock = ManualClock()
    waiting = asyncio.ensure_future(Doorbell(clock=clock).wait(at_most=timedelta(seconds=5)))
    await turns()
    clock.advance(timedelta(seconds=4.9))
    await turns()
    assert not waiting.done()
    clock.advance(timedelta(seconds=0.1))
    await asyncio.wait_for(waiting, WITHIN_S)


async def test_a_wait_may_be_cancelled() -> None:
    waiting = asyncio.ensure_future(Doorbell(clock=ManualClock()).wait(at_most=LONG))
    await turns()
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=WITHIN_S)
    assert waiting.cancelled()
