"""The hub by itself: whom it wakes, whom it lets go, and what it reads for nobody."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

import pytest

from app.core.clock import ManualClock, SystemClock
from app.db.engine import Database, open_database
from app.db.work import Done, Work
from app.events.hub import Hub
from app.events.watch import Ending, Watch
from tests.support.gateway import Gateway
from tests.support.turns import turns

pytestmark = pytest.mark.sqlite_alone  # how Postgres reads its log is tested with the cursors

A_MOMENT = timedelta(milliseconds=20)  # longer than the hub's breath
WITHIN_S = 60


class Counted(Database):
    def __init__(self, url: str) -> None:
        super().__init__(open_database(url)._connections)  # noqa: SLF001 - it takes their place
        self.looks = 0

    async def look_up(self, work: Work[Done]) -> Done:
        self.looks += 1
        return await super().look_up(work)


@dataclass
class Running:
    hub: Hub[str]
    database: Counted
    clock: ManualClock
    closing: asyncio.Event
    asked: list[Collection[str]]

    async def second(self) -> None:
        self.clock.advance(timedelta(seconds=1))
        await SystemClock().sleep(A_MOMENT)

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not done():
                await self.second()


@pytest.fixture
async def running(
    gateway: Gateway,  # noqa: ARG001 - what is there to be told of
    database_url: str,
    clock: ManualClock,
) -> AsyncIterator[Running]:
    asked: list[Collection[str]] = []

    async def lost(holders: Collection[str]) -> Collection[str]:
        asked.append(holders)
        if "nobody" in holders:
            raise ValueError
        return {"carol"}

    closing, database = asyncio.Event(), Counted(database_url)
    hub = Hub(
        database=database, clock=clock, closing=closing, notices=None, lost=lost, most_per_user=5
    )
    working = asyncio.ensure_future(hub.run())
    yield Running(hub, database, clock, closing, asked)
    closing.set()
    await working
    await database.close()


async def test_for_those_who_left_nothing_is_read_or_asked(running: Running) -> None:
    with running.hub.watch("job_1", holder="alice"):
        await running.until(lambda: running.database.looks > 1 and running.asked)
    assert {"alice"} in running.asked
    await running.second()
    running.asked.clear()
    looks = running.database.looks
    for _ in range(5):
        await running.second()
    assert (running.database.looks, running.asked) == (looks, [])


async def test_who_knows_an_event_is_not_woken_for_it(gateway: Gateway, running: Running) -> None:
    job = await gateway.submit()
    with (
        running.hub.watch(job["id"], holder="alice") as knowing,
        running.hub.watch(job["id"], holder="bob") as other,
    ):
        knowing.knows = lambda _: True
        await running.until(lambda: knowing.heed()[0])
        other.heed()
        await gateway.dispatch()
        await running.until(lambda: other.heed()[0])
        assert not knowing.heed()[0]


async def test_what_is_said_while_nobody_waits_is_not_missed() -> None:
    """As a stream does not while it sends."""
    watch = Watch(opened=0)
    for say in (
        watch.tell,
        lambda: watch.beat(quiet_since=0),
        lambda: watch.end(Ending.ACCESS),
    ):
        say()
        waiting = asyncio.ensure_future(watch.wait())
        await turns()
        assert waiting.done()
        watch.heed()


async def test_a_look_that_failed_is_repeated_once(running: Running) -> None:
    with running.hub.watch("job_1", holder="alice") as watch:
        await running.until(lambda: watch.heed()[0])
        watch.look_again()
        await running.until(lambda: watch.heed()[0])
        for _ in range(3):
            await running.second()
        assert not watch.heed()[0]


async def test_a_check_of_access_that_fails_is_not_the_last(running: Running) -> None:
    with running.hub.watch("job_1", holder="nobody") as watch:
        await running.until(lambda: running.asked)
        assert watch.ending is None
    with running.hub.watch("job_1", holder="carol") as watch:
        await running.until(lambda: watch.ending is Ending.ACCESS)


async def test_all_waits_end_when_the_process_does(running: Running) -> None:
    with running.hub.watch("job_1", holder="alice") as early:
        running.closing.set()
        await running.until(lambda: early.ending is Ending.CLOSING)
        with running.hub.watch("job_1", holder="alice") as late:
            assert late.ending is Ending.CLOSING
