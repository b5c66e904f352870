"""The leased queue that workers draw from: each method is one transaction, many jobs at a time."""

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.ids import new_id
from app.core.metrics import Metrics
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.events.log import JobEvent
from app.jobs.announce import announce
from app.jobs.change_repository import ChangeRepository
from app.jobs.lanes.accounts import Roster
from app.jobs.models import Lease
from app.jobs.queue.config import QueueConfig
from app.jobs.queue.polls import PollQueue
from app.jobs.queue.repository import QueueRepository
from app.jobs.queue.submits import SubmitQueue
from app.jobs.recorder import Recorder
from app.jobs.repository import JobRepository
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
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self.name = new_id("worker")
        self.roster = roster
        recorder = Recorder(
            database=database,
            archives=config.archives,
            metrics=metrics,
            clock=clock,
            deliverer=deliverer,
        )
        self.record = NaturalBatch(recorder.write)
        """Write one change; return whether it counted, which it does not once the lease is lost."""
        self.submits = SubmitQueue(
            database=database,
            config=config,
            roster=roster,
            record=self.record,
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

    async def note_late_request(self, lease: Lease, *, request_id: str) -> bool:
        """Keep a request id that came after the job had moved on: it may be billed, and is watched.

        False if the job already has this id: it was written, though the commit's answer was lost.
        Of a job that was erased meanwhile there is nothing to keep it with: the caller tells.
        """
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> bool:
            seq = await ChangeRepository(tx).note_request(
                lease.job_id,
                request_id,
                account=lease.account,
                watch_until=at + self._config.late_watch,
                at=at,
            )
            if seq is None:  # the job's own id, or that of one that was erased
                return await JobRepository(tx).holder_of(request_id) is None
            event = JobEvent(
                job_id=lease.job_id,
                seq=seq,
                type="late_request_id",
                at=at,
                data={"upstream_request_id": request_id},
            )
            await announce(tx, [event])
            return True

        is_news = await self._database.transact(work)
        self._metrics.late_requests.inc(is_news)
        return is_news

    async def free_leases(self) -> None:
        """End every lease at start; only where no other process can hold one."""

        async def work(tx: AsyncConnection) -> None:
            await QueueRepository(tx).free_leases(at=self._clock.now())
            await copies.free_leases(tx, at=self._clock.now())

        await self._database.transact(work)
