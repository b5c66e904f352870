"""What clients may do with their jobs; a method is one transaction, or a few reads."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.core.external_wait import external_wait
from app.core.ids import is_id
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.jobs.errors import JobNotFinalError, JobNotFoundError, NotCancellableError
from app.jobs.models import Job, JobFilter
from app.jobs.moves import Move, log_moves, record_moves
from app.jobs.outcomes import CANCELLED_LOCALLY, NOT_CANCELLABLE
from app.jobs.repository import JobRepository
from app.jobs.state import FOLLOWED, JobState
from app.jobs.timing.forecast import Forecast
from app.storage import discards
from app.storage.discards import Sweeper

CancelOutcome = Literal["cancelled_locally", "cancelled_upstream", "cancel_requested"]

_CANCEL_PATIENCE = timedelta(seconds=10)
# Polled, since a refused cancel changes no state and makes no event for the hub to report.
_CANCEL_LOOK = timedelta(milliseconds=50)


class JobService:
    """`poller` and `deliverer` are the doorbells of this process's loops, if it has any."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        closing: asyncio.Event,
        forecast: Forecast,
        poller: Doorbell,
        deliverer: Doorbell,
        sweeper: Sweeper,
    ) -> None:
        self._database = database
        self._clock = clock
        self._closing = closing
        self._forecast = forecast
        self._poller = poller
        self._deliverer = deliverer
        self._sweeper = sweeper
        self._read = NaturalBatch(self._read_all)

    async def get(self, job_id: str, *, user_id: str) -> Job:
        await self._forecast.refresh()
        # Only a well-formed id is looked up: Postgres would fail on one with a NUL in it.
        job = await self._read(job_id) if is_id(job_id, prefix="job") else None
        if job is None or job.user_id != user_id:
            raise JobNotFoundError(job_id)
        return job

    async def _read_all(self, job_ids: Sequence[str]) -> Sequence[Job | None]:
        jobs = await self.find_many(sorted(set(job_ids)))
        return [jobs.get(job_id) for job_id in job_ids]

    async def find_many(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """Return those of the jobs that still exist, whoever owns them."""
        if not job_ids:
            return {}
        return await self._database.look_up(lambda tx: JobRepository(tx).find_many(job_ids))

    async def get_signed(self, job_id: str) -> Job:
        """Return a job to the bearer of a link that this gateway signed."""
        job = await self._database.look_up(lambda tx: JobRepository(tx).find_signed(job_id))
        if job is None:
            raise JobNotFoundError(job_id)
        return job

    async def page(
        self, *, user_id: str, matching: JobFilter, before: str | None, limit: int
    ) -> Sequence[Job]:
        await self._forecast.refresh()
        return await self._database.search(
            lambda tx: JobRepository(tx).page(
                user_id=user_id, matching=matching, before=before, limit=limit
            ),
            whose=user_id,
        )

    async def cancel(
        self, job_id: str, *, user_id: str, awaits_submit: bool = False
    ) -> tuple[CancelOutcome, Job]:
        """Cancel an unsent job here; otherwise let a worker ask upstream and wait for its answer.

        Raises NotCancellableError when it is too late. `cancel_requested` means that no answer came
        within 10 s, or before this process had to stop, or that the job is just being sent (unless
        `awaits_submit`): the request is kept, and a worker keeps trying.
        """
        job = await self.get(job_id, user_id=user_id)
        await self._intend_cancel(job_id, user_id=user_id)
        self._poller.ring()
        patience_ends = self._clock.monotonic() + _CANCEL_PATIENCE.total_seconds()
        while True:
            with suppress(DatabaseUnavailableError):  # the request is kept, so wait on
                job = await self.get(job_id, user_id=user_id)
            outcome = _cancel_outcome(job)
            if outcome != "cancel_requested":
                return outcome, job
            if not (awaits_submit or job.state in FOLLOWED):
                return outcome, job
            if self._closing.is_set() or self._clock.monotonic() >= patience_ends:
                return outcome, job
            with external_wait(self._clock):
                await self._clock.sleep(_CANCEL_LOOK)

    async def erase(self, job_id: str, *, user_id: str) -> None:
        """Delete a job that has ended; its ledger entries, which hold no inputs, stay."""
        job = await self.get(job_id, user_id=user_id)
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Sequence[str] | None:
            outputs = await discards.output_keys(tx, [job_id])
            if not await JobRepository(tx).erase(job_id, user_id=user_id, at=at):
                return None
            return await discards.discard_jobs(tx, [job_id], outputs=outputs, at=at)

        keys = await self._database.transact(work)
        if keys is None:
            await self.get(job_id, user_id=user_id)  # raises if somebody erased it meanwhile
            raise JobNotFinalError(job.state.status)
        await self._sweeper.delete(keys)

    async def _intend_cancel(self, job_id: str, *, user_id: str) -> None:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> tuple[Sequence[Move], bool]:
            jobs = JobRepository(tx)
            if move := await jobs.cancel_pending(job_id, user_id=user_id, at=at):
                return [move], await record_moves(tx, [move], at=at)
            await jobs.request_cancel(job_id, user_id=user_id, at=at)
            await jobs.confirm(job_id)  # it may be cancelled already
            return [], False

        moves, to_deliver = await self._database.transact(work)
        log_moves(moves)
        if to_deliver:
            self._deliverer.ring()


def _cancel_outcome(job: Job) -> CancelOutcome:
    match job.state:
        case JobState.CANCELLED:
            local = job.cancel_outcome == CANCELLED_LOCALLY
            return "cancelled_locally" if local else "cancelled_upstream"
        case JobState.COMPLETED | JobState.FAILED:
            raise NotCancellableError(reason="finished")
        case JobState.SUBMIT_UNKNOWN:
            raise NotCancellableError(reason="submit_unknown")
        case JobState.IN_QUEUE | JobState.IN_PROGRESS if job.cancel_outcome == NOT_CANCELLABLE:
            raise NotCancellableError(reason="in_progress")
        case _:
            return "cancel_requested"
