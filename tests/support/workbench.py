"""Workers put together by hand, for tests that need access to one of their parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.core.clock import ManualClock
from app.core.doorbell import Doorbell
from app.core.metrics import Metrics
from app.core.tracing import Tracing
from app.jobs.inputs import JobInputs
from app.jobs.lanes.accounts import Roster
from app.jobs.queue.config import QueueConfig
from app.jobs.queue.polls import PollQueue
from app.jobs.queue.submits import SubmitQueue
from app.jobs.recorder import Recorder
from app.jobs.timing.forecast import Forecast
from app.jobs.timing.poll_times import PollTimes
from app.jobs.timing.schedule import Pace
from app.storage.discards import Sweeper
from app.storage.files import FileService
from app.storage.rows import RowStorage
from app.storage.uploads import Uploads, UploadsConfig
from app.upstream.accounts import DEFAULT
from app.worker.dispatcher import Dispatcher, DispatcherConfig
from app.worker.poller import Poller, PollerConfig
from tests.support.switched_database import SwitchedDatabase
from tests.support.upstream import upstream


@dataclass
class Workbench:
    database: SwitchedDatabase
    recorder: Recorder
    dispatcher: Dispatcher
    poller: Poller
    dispatch_bell: Doorbell


@asynccontextmanager
async def workbench(
    database_url: str, *, upstream_url: str, clock: ManualClock, grace: float = 5, **config: Any
) -> AsyncIterator[Workbench]:
    """Open the background part of a gateway; `config` is the queue's."""
    database, metrics = SwitchedDatabase(database_url), Metrics()
    queue, roster = QueueConfig(**config), Roster()
    recorder = Recorder(
        database=database,
        config=queue,
        metrics=metrics,
        clock=clock,
        deliverer=Doorbell(clock=clock),
    )
    poll_times = PollTimes(
        forecast=Forecast(database=database, clock=clock, config=queue.schedule),
        pace=Pace(config=queue.schedule, polls_per_second=queue.polls_per_second),
        job_timeout=queue.job_timeout,
        late_watch=queue.late_watch,
        jitter=lambda: 0.5,
    )
    bell = Doorbell(clock=clock)
    try:
        async with upstream(upstream_url, connections=32) as client:
            accounts = {DEFAULT: client}
            yield Workbench(
                database=database,
                recorder=recorder,
                dispatcher=Dispatcher(
                    queue=SubmitQueue(
                        database=database,
                        config=queue,
                        roster=roster,
                        record=recorder.record,
                        metrics=metrics,
                        clock=clock,
                    ),
                    recorder=recorder,
                    poll_times=poll_times,
                    poller="worker",
                    roster=roster,
                    upstream=accounts,
                    inputs=_no_files(database, clock=clock),
                    config=DispatcherConfig(grace=timedelta(seconds=grace)),
                    tracing=Tracing(),
                    clock=clock,
                    jitter=lambda: 0.5,
                    doorbell=bell,
                ),
                poller=Poller(
                    queue=PollQueue(
                        database=database,
                        config=queue,
                        roster=roster,
                        poller="worker",
                        times=poll_times,
                        clock=clock,
                    ),
                    recorder=recorder,
                    poll_times=poll_times,
                    upstream=accounts,
                    config=PollerConfig(),
                    metrics=metrics,
                    tracing=Tracing(),
                    clock=clock,
                    doorbell=Doorbell(clock=clock),
                ),
                dispatch_bell=bell,
            )
    finally:
        await database.close()


def _no_files(database: SwitchedDatabase, *, clock: ManualClock) -> JobInputs:
    uploads = Uploads(
        database=database,
        storage=RowStorage(database),
        sweeper=Sweeper(database=database, storage=RowStorage(database), clock=clock),
        config=UploadsConfig(),
        clock=clock,
    )
    return JobInputs(
        files=FileService(database=database, storage=RowStorage(database), clock=clock),
        uploads=uploads,
        links=None,
        link_life=timedelta(hours=1),
        clock=clock,
    )
