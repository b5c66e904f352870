"""Loops that are told to stop: each ends, by itself or not."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.core.stopping import run_until
from app.worker.loop import LoopConfig, WorkLoop
from app.worker.pruner import Pruner
from tests.support.turns import turns

pytestmark = pytest.mark.anyio


def eight_slots(bell: Doorbell, clock: ManualClock, **config: Any) -> dict[str, Any]:
    """Say of a loop what its tests are not about."""
    second = timedelta(seconds=1)
    config = {"slots": 8, "idle": second, "grace": second, **config}
    return {"config": LoopConfig(**config), "doorbell": bell, "clock": clock}


async def test_a_loop_that_waits_for_ever_does_not_keep_the_others_from_the_end() -> None:
    stop, bell, ended = asyncio.Event(), asyncio.Event(), list[str]()

    async def heeds_the_bell() -> None:
        await bell.wait()
        ended.append("rung")

    async def asks_a_database_that_is_frozen() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    stop.set()
    await run_until(
        stop,
        [heeds_the_bell(), asks_a_database_that_is_frozen()],
        ring=bell.set,
        within=timedelta(milliseconds=10),
    )
    assert ended == ["rung", "cancelled"]


async def test_a_loop_that_rests_takes_what_comes_meanwhile_in_one_claim() -> None:
    clock = ManualClock()
    stop, bell = asyncio.Event(), Doorbell(clock=clock)
    waiting, claims, handled = [1], list[int](), list[int]()

    async def claim(most: int) -> list[int]:
        found, waiting[:] = waiting[:most], waiting[most:]
        claims.append(len(found))
        return found

    async def handle(piece: int) -> None:
        handled.append(piece)
        if piece == 1:
            for late in (2, 3, 4):  # each as an accepted job comes
                waiting.append(late)
                bell.ring()
                await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
        if piece == 4:
            stop.set()

    loop = WorkLoop(
        "resting",
        claim=claim,
        handle=handle,
        **eight_slots(bell, clock, rest=timedelta(milliseconds=20)),
    )
    async with asyncio.timeout(60):
        await loop.run(stop)
    assert (claims, handled) == ([1, 3], [1, 2, 3, 4])


async def test_a_loop_that_rests_is_not_asked_at_each_ring_while_there_is_nothing() -> None:
    clock = ManualClock()
    bell, claims = Doorbell(clock=clock), list[int]()

    async def claim(most: int) -> list[int]:
        claims.append(most)
        return []

    async def handle(_: int) -> None:
        raise AssertionError("there is nothing")

    loop = WorkLoop(
        "resting", claim=claim, handle=handle, **eight_slots(bell, clock, rest=timedelta(hours=1))
    )
    running = asyncio.ensure_future(loop.run(asyncio.Event()))
    for _ in range(20):
        bell.ring()
        await turns()
    running.cancel()
    assert len(claims) == 1


async def test_what_hangs_keeps_no_free_place_from_the_rest() -> None:
    clock = ManualClock()
    stop, bell, may_end = asyncio.Event(), Doorbell(clock=clock), asyncio.Semaphore(2)
    waiting, claims = list(range(8)), list[int]()

    async def claim(most: int) -> list[int]:
        found, waiting[:] = waiting[:most], waiting[most:]
        claims.append(len(found))
        return found

    async def handle(_: int) -> None:
        await may_end.acquire()

    loop = WorkLoop("patient", claim=claim, handle=handle, **eight_slots(bell, clock, least=4))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        running = group.create_task(loop.run(stop))
        await turns()
        waiting += range(8, 20)
        bell.ring()
        await turns()
        assert claims == [8], "two places are free, and four may soon be"
        clock.advance(timedelta(seconds=1))
        await turns()
        assert claims == [8, 2]
        for free in range(4):
            assert claims == [8, 2], f"{free} places are free, and the claim before was just now"
            may_end.release()
            await turns()
        assert claims == [8, 2, 4]
        stop.set()
        for _ in range(8):
            may_end.release()
        bell.ring()
        await running


async def test_a_loop_that_found_as_much_as_it_can_do_does_not_rest() -> None:
    clock = ManualClock()
    bell, waiting, claims = Doorbell(clock=clock), list(range(16)), list[int]()

    async def claim(most: int) -> list[int]:
        found, waiting[:] = waiting[:most], waiting[most:]
        claims.append(len(found))
        return found

    async def handle(_: int) -> None:
        pass

    loop = WorkLoop(
        "full", claim=claim, handle=handle, **eight_slots(bell, clock, rest=timedelta(hours=1))
    )
    running = asyncio.ensure_future(loop.run(asyncio.Event()))
    await turns(50)
    running.cancel()
    assert claims == [8, 8, 0]


async def test_a_loop_has_looked_for_work_while_it_finds_none_and_while_it_takes_no_more() -> None:
    clock = ManualClock()
    bell, waiting = Doorbell(clock=clock), list[int]()

    async def claim(most: int) -> list[int]:
        found, waiting[:] = waiting[:most], waiting[most:]
        return found

    async def handle(_: int) -> None:
        await asyncio.Event().wait()

    loop = WorkLoop("alive", claim=claim, handle=handle, **eight_slots(bell, clock))
    running = asyncio.ensure_future(loop.run(asyncio.Event()))
    await turns()
    for found in (0, 8, 0):
        waiting += range(found)
        clock.advance(timedelta(seconds=1))
        await turns()
        assert loop.looked_at == clock.monotonic()
    running.cancel()


@pytest.mark.parametrize("failure", [DatabaseUnavailableError(), LookupError()])
async def test_a_loop_that_cannot_claim_ends_as_soon_as_it_is_told_to(failure: Exception) -> None:
    clock = ManualClock()
    stop, bell = asyncio.Event(), Doorbell(clock=clock)

    async def claim(_: int) -> list[int]:
        raise failure

    async def handle(_: int) -> None:
        raise AssertionError("there is nothing")

    loop = WorkLoop("cut off", claim=claim, handle=handle, **eight_slots(bell, clock))
    running = asyncio.ensure_future(loop.run(stop))
    await turns()
    stop.set()
    bell.ring()
    await turns()
    assert running.done()
    await running


async def test_a_chore_that_breaks_down_bars_no_other() -> None:
    clock = ManualClock()

    async def break_down() -> int:
        raise LookupError

    async def forget() -> int:
        return 3

    pruner = Pruner(chores=[break_down, forget], doorbell=Doorbell(clock=clock), clock=clock)
    with capture_logs() as logs:
        assert await pruner.run_once() == 3
    assert [line["event"] for line in logs] == ["loop.failed"]
