"""Many callers, few turns: each gets its own answer, whatever becomes of its neighbours."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from app.core.errors import DatabaseUnavailableError
from app.core.natural_batch import NaturalBatch
from tests.support.turns import turns

WITHIN_S = 60


class Doubler:
    """Doubles numbers once its gate is open; `batches` shows what it was given together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.poison: set[int] = set()
        self.failure: Exception = ValueError("poison")

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.poison.intersection(items):
            raise self.failure
        return [item * 2 if item >= 0 else KeyError(item) for item in items]


def start(batch: Callable[[int], Awaitable[int]], *items: int) -> list[asyncio.Future[int]]:
    return [asyncio.ensure_future(batch(item)) for item in items]


async def ended(callers: Sequence[asyncio.Future[Any]]) -> list[Any]:
    async with asyncio.timeout(WITHIN_S):
        return list(await asyncio.gather(*callers, return_exceptions=True))


async def test_a_lone_caller_waits_for_nobody() -> None:
    work = Doubler()
    batch = NaturalBatch(work)
    assert [await batch(1), await batch(2)] == [2, 4]
    assert work.batches == [[1], [2]]


async def test_what_a_batch_logs_is_said_of_none_of_its_callers() -> None:
    """It works for many, in a task that the first of them began."""
    bound: list[dict[str, Any]] = []

    async def work(items: Sequence[int]) -> Sequence[int]:
        bound.append(get_contextvars())
        return items

    with bound_contextvars(request_id="req_1"):
        await NaturalBatch(work)(1)
        assert get_contextvars()["request_id"] == "req_1"
    assert bound == [{}]


async def test_callers_who_come_again_and_again_come_together() -> None:
    work = Doubler()
    work.gate.clear()
    batch = NaturalBatch(work)

    async def come_again(first: int) -> None:
        for item in range(first, first + 5):
            await batch(item)
            await turns(3)  # the way to a client and back

    early = asyncio.ensure_future(come_again(0))
    await turns()
    others = [asyncio.ensure_future(come_again(10 * n)) for n in range(1, 8)]
    await turns()
    work.gate.set()
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(early, *others)
    assert [len(items) for items in work.batches] == [1, 8, 8, 8, 8, 7]


async def test_callers_whose_way_takes_longer_come_together_too() -> None:
    """Two begin, two come meanwhile, and soon there are no turns of two any more."""
    sizes: list[int] = []

    async def work(items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        await asyncio.sleep(0.04)  # noqa: TID251 - the real time that a batch takes
        return items

    batch = NaturalBatch(work)

    async def come_again(first: int) -> None:
        for item in range(first, first + 20):
            await batch(item)
            await asyncio.sleep(0.001)  # noqa: TID251 - too long for turns of the loop

    early = [asyncio.ensure_future(come_again(first)) for first in (0, 100)]
    await turns()
    await ended([*early, *(asyncio.ensure_future(come_again(first)) for first in (200, 300))])
    assert sizes[0] == 2
    assert 4 in sizes


async def test_who_comes_during_a_batch_is_in_the_next_in_order() -> None:
    work = Doubler()
    work.gate.clear()
    callers = start(NaturalBatch(work), 1)
    batch_of = start(NaturalBatch(work), 9)
    await turns()
    assert work.batches == [[1], [9]]
    work.gate.set()
    assert await ended(callers + batch_of) == [2, 18]

    work = Doubler()
    work.gate.clear()
    batch = NaturalBatch(work)
    callers = start(batch, 1)
    await turns()
    callers += start(batch, 4, 2, 3)
    await turns()
    work.gate.set()
    assert await ended(callers) == [2, 8, 4, 6]
    assert work.batches == [[1], [4, 2, 3]]


async def test_a_batch_has_a_size() -> None:
    work = Doubler()
    callers = start(NaturalBatch(work, most=3), *range(8))
    assert await ended(callers) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert work.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_an_items_exception_is_its_callers_alone() -> None:
    answers = await ended(start(NaturalBatch(Doubler()), 1, -2, 3))
    assert [type(each) for each in answers] == [int, KeyError, int]


async def test_poison_fails_nobody_but_who_brought_it() -> None:
    work = Doubler()
    work.poison = {2}
    answers = await ended(start(NaturalBatch(work), 1, 2, 3))
    assert [type(each) for each in answers] == [int, ValueError, int]
    assert work.batches == [[1, 2, 3], [1], [2], [3]]


async def test_a_database_that_is_away_is_asked_once_for_all() -> None:
    """Each alone would wait for it in turn: 500 callers for 500 times the patience."""
    work = Doubler()
    work.poison, work.failure = {2}, DatabaseUnavailableError()
    answers = await ended(start(NaturalBatch(work), 1, 2, 3))
    assert [type(each) for each in answers] == [DatabaseUnavailableError] * 3
    assert len(set(map(id, answers))) == 3
    assert work.batches == [[1, 2, 3]]


async def test_who_came_first_may_be_cancelled_and_the_others_are_answered() -> None:
    work = Doubler()
    work.gate.clear()
    callers = start(NaturalBatch(work), 1, 2, 3)
    await turns()
    callers[0].cancel()
    await turns()
    work.gate.set()
    first, *others = await ended(callers)
    assert isinstance(first, asyncio.CancelledError)
    assert others == [4, 6]
    assert work.batches == [[1, 2, 3]]


async def test_turns_that_are_broken_off_leave_nobody_waiting() -> None:
    """As when the loop ends, and cancels all tasks."""
    work = Doubler()
    work.gate.clear()
    batch = NaturalBatch(work, most=1)
    before = asyncio.all_tasks()
    callers = start(batch, 1, 2)
    await turns()
    for task in asyncio.all_tasks() - before - set(callers):
        task.cancel()
    assert {type(each) for each in await ended(callers)} == {asyncio.CancelledError}
    work.gate.set()
    assert await batch(3) == 6


async def test_who_is_cancelled_in_the_line_is_worked_for_no_more() -> None:
    work = Doubler()
    work.gate.clear()
    batch = NaturalBatch(work)
    callers = start(batch, 1)
    await turns()
    callers += start(batch, 2, 3, 4)
    await turns()
    callers[2].cancel()
    await turns()
    work.gate.set()
    answers = await ended(callers)
    assert [type(each) for each in answers] == [int, int, asyncio.CancelledError, int]
    assert work.batches == [[1], [2, 4]]


async def test_a_turn_without_anybody_left_does_no_work() -> None:
    work = Doubler()
    work.gate.clear()
    batch = NaturalBatch(work, most=1)
    callers = start(batch, 1)
    await turns()
    callers += start(batch, 2, 3)
    await turns()
    callers[1].cancel()
    work.gate.set()
    await ended(callers)
    assert [] not in work.batches
    assert work.batches == [[1], [3]]


async def test_a_worker_with_too_few_answers_is_a_bug_that_hangs_nobody() -> None:
    async def work(items: Sequence[int]) -> Sequence[int | Exception]:
        return list(items)[:-1]

    answers = await ended(start(NaturalBatch(work), 1, 2))
    assert ValueError in {type(each) for each in answers}


@pytest.mark.parametrize("seed", range(10))
async def test_callers_that_come_and_go_at_random_are_each_answered(seed: int) -> None:
    draw = random.Random(seed)
    work = Doubler()
    batch = NaturalBatch(work, most=4)
    callers: list[asyncio.Future[int]] = []
    for item in range(60):
        callers += start(batch, item)
        draw.choice((work.gate.set, work.gate.clear))()
        if draw.random() < 0.2:
            draw.choice(callers).cancel()
        await turns(draw.randrange(4))
    work.gate.set()
    answers = await ended(callers)
    for item, answer in enumerate(answers):
        assert answer == item * 2 or isinstance(answer, asyncio.CancelledError)
    done = [item for items in work.batches for item in items]
    assert len(done) == len(set(done)), "no item is worked on twice"
