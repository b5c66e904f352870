"""What clients may do with jobs; each method is one transaction, or a few short reads."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalogue.checker import Checked
from app.catalogue.model import Model
from app.catalogue.service import Catalogue
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.ids import is_id, new_id
from app.db.engine import Database
from app.events import log
from app.events.log import JobEvent
from app.jobs.batch import AcceptBatch, Accepted
from app.jobs.errors import InvalidInputError, JobNotFoundError, NotCancellableError
from app.jobs.models import Job, JobFilter, NewJob
from app.jobs.outcomes import CANCELLED_LOCALLY, NOT_CANCELLABLE
from app.jobs.repository import JobRepository
from app.jobs.state import FOLLOWED, JobState

CancelOutcome = Literal["cancelled_locally", "cancelled_upstream", "cancel_requested"]

_CANCEL_PATIENCE = timedelta(seconds=10)
_CANCEL_LOOK = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    model: str
    input: Mapping[str, Any]
    metadata: dict[str, str]


class JobService:
    """`dispatcher` and `poller` ring the loops of this process, if it has any."""

    def __init__(
        self,
        *,
        database: Database,
        catalogue: Catalogue,
        clock: Clock,
        dispatcher: Doorbell,
        poller: Doorbell,
        allow_private_networks: bool,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._clock = clock
        self._dispatcher = dispatcher
        self._poller = poller
        self._allow_private_networks = allow_private_networks
        self._batch = AcceptBatch(database=database, clock=clock)

    def check(self, request: JobRequest) -> tuple[Model, Checked]:
        """Hold the input against the model's schema; raises UnknownModelError."""
        model = self._catalogue.get(request.model)
        return model, model.check(
            request.input, allow_private_networks=self._allow_private_networks
        )

    async def find_replay(
        self, *, user_id: str, idempotency_key: str, fingerprint: str
    ) -> Accepted | None:
        """Give the job that this key already made; another fingerprint is a conflict."""
        return await self._batch.find_replay(
            user_id=user_id, idempotency_key=idempotency_key, fingerprint=fingerprint
        )

    async def submit(
        self,
        request: JobRequest,
        *,
        user_id: str,
        key_id: str,
        idempotency_key: str | None,
        fingerprint: str,
    ) -> Accepted:
        """Accept a job, or give the one that this key made meanwhile; it is durable on return."""
        model, checked = self.check(request)
        if checked.errors:
            raise InvalidInputError(checked.errors)
        accepted = await self._batch.accept(
            NewJob(
                id=new_id("job"),
                user_id=user_id,
                key_id=key_id,
                model=model.model_id,
                schema_hash=model.schema_hash,
                input=checked.input,
                metadata=request.metadata,
                output_seconds=checked.output_seconds,
                created_at=self._clock.now(),
                idempotency_key=idempotency_key,
                fingerprint=fingerprint,
            )
        )
        self._dispatcher.ring()
        return accepted

    async def get(self, job_id: str, *, user_id: str) -> Job:
        async def work(connection: AsyncConnection) -> Job | None:
            return await JobRepository(connection).find(job_id, user_id=user_id)

        return await self._found(job_id, work)

    async def get_signed(self, job_id: str) -> Job:
        """Give a job to the bearer of a link that this gateway signed."""

        async def work(connection: AsyncConnection) -> Job | None:
            return await JobRepository(connection).find_signed(job_id)

        return await self._found(job_id, work)

    async def page(
        self, *, user_id: str, matching: JobFilter, before: str | None, limit: int
    ) -> Sequence[Job]:
        async def work(connection: AsyncConnection) -> Sequence[Job]:
            return await JobRepository(connection).page(
                user_id=user_id, matching=matching, before=before, limit=limit
            )

        return await self._database.read(work)

    async def cancel(self, job_id: str, *, user_id: str) -> tuple[CancelOutcome, Job]:
        """Cancel here what was not sent, else let a worker ask upstream and wait for its answer.

        Raises NotCancellableError when it is too late. `cancel_requested` means that no answer came
        within 10 s, or that the job is just being sent: the intent is kept and followed up.
        """
        await self.get(job_id, user_id=user_id)
        await self._intend_cancel(job_id, user_id=user_id)
        self._poller.ring()
        patience_ends = self._clock.monotonic() + _CANCEL_PATIENCE.total_seconds()
        while True:
            job = await self.get(job_id, user_id=user_id)
            outcome = _cancel_outcome(job)
            if outcome != "cancel_requested" or job.state not in FOLLOWED:
                return outcome, job
            if self._clock.monotonic() >= patience_ends:
                return outcome, job
            await self._clock.sleep(_CANCEL_LOOK)

    async def _found(
        self, job_id: str, find: Callable[[AsyncConnection], Awaitable[Job | None]]
    ) -> Job:
        # What is no id is not asked for: a NUL in it would be an error to Postgres.
        job = await self._database.read(find) if is_id(job_id, prefix="job") else None
        if job is None:
            raise JobNotFoundError(job_id)
        return job

    async def _intend_cancel(self, job_id: str, *, user_id: str) -> None:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> None:
            jobs = JobRepository(tx)
            seq = await jobs.cancel_pending(job_id, user_id=user_id, at=at)
            if seq is None:
                await jobs.request_cancel(job_id, user_id=user_id, at=at)
                return
            event = JobEvent(job_id=job_id, seq=seq, type=JobState.CANCELLED.value, at=at)
            await log.append(tx, [event])

        await self._database.transact(work)


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
