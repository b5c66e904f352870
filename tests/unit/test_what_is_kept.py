"""What a process keeps of the shared tables: who may touch it, and who waits for it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import ManualClock
from app.core.errors import DatabaseUnavailableError
from app.db.engine import opened_database
from app.jobs.timing.durations import Kind, Observation, Phase
from app.jobs.timing.forecast import Durations, Forecast
from app.jobs.timing.repository import DurationRepository
from app.jobs.timing.schedule import ScheduleConfig
from app.quotas.prices import PricesService
from tests.support.switched_database import SwitchedDatabase

CALLERS = 10
RUN = Kind(Phase.RUN, "m/x", "5s")


class Watched(Durations):
    """Notes on which threads it is changed."""

    def __init__(self) -> None:
        super().__init__(config=ScheduleConfig())
        self.threads: set[int] = set()

    def put(self, kind: Kind, bucket: int, weight: float) -> None:
        self.threads.add(threading.get_ident())
        super().put(kind, bucket, weight)


async def test_what_was_read_is_taken_in_where_requests_read_curves(
    database_url: str, clock: ManualClock
) -> None:
    """SQLite reads in a thread, and a request may be going through the counts at that moment."""

    async def observe(tx: AsyncConnection) -> None:
        seen = [Observation(RUN, seconds) for seconds in (90.0, 91.0, 120.0)]
        await DurationRepository(tx).observe(seen, at=clock.now())

    async with opened_database(database_url) as database:
        await database.transact(observe)
        forecast = Forecast(database=database, clock=clock, config=ScheduleConfig())
        forecast.durations = watched = Watched()
        before = watched.curve(RUN).median
        await forecast.refresh()
        assert watched.threads == {threading.get_ident()}
        assert watched.curve(RUN).median > before


@pytest.mark.parametrize("what", ["durations", "prices"])
async def test_a_database_that_is_away_fails_at_once_all_who_wait_for_what_is_kept(
    database_url: str, clock: ManualClock, what: str
) -> None:
    """One after the other, each would wait for it in its turn, and the last for all of them."""
    database = SwitchedDatabase(database_url)
    forecast = Forecast(database=database, clock=clock, config=ScheduleConfig())
    prices = PricesService(database=database, clock=clock, models=dict)
    ask: Callable[[], Awaitable[object]] = (
        forecast.refresh if what == "durations" else prices.current
    )
    database.away = True
    try:
        asked = [asyncio.ensure_future(ask()) for _ in range(CALLERS)]
        failures = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in failures] == [DatabaseUnavailableError] * CALLERS
        assert database.refused == 1
        database.away = False
        await asyncio.gather(*(ask() for _ in range(CALLERS)))
    finally:
        await database.close()
