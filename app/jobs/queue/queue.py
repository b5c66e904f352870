"""The leased queue of jobs, as the workers of one process draw from it and write to it."""

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.ids import new_id
from app.core.metrics import Metrics
from app.db.engine import Database
from app.jobs.lanes.accounts import Roster
from app.jobs.queue.config import QueueConfig
from app.jobs.queue.polls import PollQueue
from app.jobs.queue.repository import QueueRepository
from app.jobs.queue.submits import SubmitQueue
from app.jobs.recorder import Recorder
from app.jobs.timing.forecast import Forecast
from app.jobs.timing.poll_times import PollTimes
from app.jobs.timing.schedule import Jitter, Pace
from app.storage import copies


class JobQueue:
    """`name` is unique to this process: the jobs it follows stay with it while it keeps polling."""

    def __init__(
        self,
        *,
        database: Database,
        config: QueueConfig,
        forecast: Forecast,
        metrics: Metrics,
        clock: Clock,
        jitter: Jitter,
        deliverer: Doorbell,
        roster: Roster,
    ) -> None:
        self._database = database
        self._clock = clock
        self.name = new_id("worker")
        self.roster = roster
        self.recorder = Recorder(
            database=database,
            archives=config.archives,
            late_watch=config.late_watch,
            metrics=metrics,
            clock=clock,
            deliverer=deliverer,
        )
        self.submits = SubmitQueue(
            database=database,
            config=config,
            roster=roster,
            record=self.recorder.record,
            metrics=metrics,
            clock=clock,
        )
        self.poll_times = PollTimes(
            forecast=forecast,
            pace=Pace(config=config.schedule, polls_per_second=config.polls_per_second),
            job_timeout=config.job_timeout,
            late_watch=config.late_watch,
            jitter=jitter,
        )
        self.polls = PollQueue(
            database=database,
            config=config,
            roster=roster,
            poller=self.name,
            times=self.poll_times,
            clock=clock,
        )

    async def free_leases(self) -> None:
        """End every lease at start; only where no other process can hold one."""

        async def work(tx: AsyncConnection) -> None:
            await QueueRepository(tx).free_leases(at=self._clock.now())
            await copies.free_leases(tx, at=self._clock.now())

        await self._database.transact(work)
