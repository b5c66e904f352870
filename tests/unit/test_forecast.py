"""What a process learns of durations from the shared table, and who may touch it meanwhile."""

import threading

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import ManualClock
from app.db.engine import open_database
from app.jobs.duration_repository import DurationRepository
from app.jobs.durations import Kind, Observation, Phase
from app.jobs.forecast import Durations, Forecast
from app.jobs.schedule import ScheduleConfig

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

    database = open_database(database_url)
    try:
        await database.transact(observe)
        forecast = Forecast(database=database, clock=clock, config=ScheduleConfig())
        forecast.durations = watched = Watched()
        before = watched.curve(RUN).median
        await forecast.refresh()
        assert watched.threads == {threading.get_ident()}
        assert watched.curve(RUN).median > before
    finally:
        await database.close()
