"""Follows jobs that RunComfy has, to their end, and carries out the cancels of their owners."""

from datetime import timedelta

import structlog
from pydantic import BaseModel, ConfigDict

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.jobs import outcomes
from app.jobs.models import Change, Lease
from app.jobs.queue import JobQueue
from app.jobs.state import JobState
from app.upstream.client import UpstreamClient
from app.upstream.errors import UpstreamError
from app.upstream.wire import CancelOutcome, RemoteResult, RemoteState, RemoteStatus
from app.worker.loop import WorkLoop

logger = structlog.get_logger(__name__)


class PollerConfig(BaseModel):
    model_config = ConfigDict(frozen=True)

    polls_at_once: int = 64
    timeout: timedelta = timedelta(seconds=10)
    idle: timedelta = timedelta(milliseconds=500)
    grace: timedelta = timedelta(seconds=3)


class Poller:
    """No answer, and no failure to answer, ends a job; only a word that upstream ended it does."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        upstream: UpstreamClient,
        config: PollerConfig,
        clock: Clock,
        doorbell: Doorbell,
    ) -> None:
        self._queue = queue
        self._upstream = upstream
        self._config = config
        self._clock = clock
        self._under_way: set[str] = set()
        self.loop = WorkLoop(
            "poller",
            claim=self.claim,
            handle=self.poll,
            places=config.polls_at_once,
            idle=config.idle,
            grace=config.grace,
            doorbell=doorbell,
            clock=clock,
        )

    async def claim(self, limit: int) -> list[Lease]:
        leases = await self._queue.claim_polls(limit=limit)
        # A slow answer may outlast the appointment for the next poll: one at a time for each job.
        return [lease for lease in leases if lease.job_id not in self._under_way]

    async def poll(self, lease: Lease) -> None:
        self._under_way.add(lease.job_id)
        try:
            change = await self._look(lease)
        except UpstreamError as exc:
            change = self._left_alone(lease, exc)
            logger.info(
                "job.poll_failed", job_id=lease.job_id, reason=exc.message, status=exc.status
            )
        finally:
            self._under_way.discard(lease.job_id)
        if change is not None:
            await self._queue.record(change)

    async def _look(self, lease: Lease) -> Change | None:
        if lease.cancel_requested_at is not None:
            return await self._cancel(lease)
        return await self._advance(lease, await self._status(lease))

    async def _advance(self, lease: Lease, status: RemoteStatus) -> Change | None:
        match status.state:
            case RemoteState.IN_QUEUE:
                return self._progressed(lease, JobState.IN_QUEUE, status.queue_position)
            case RemoteState.IN_PROGRESS:
                return self._progressed(lease, JobState.IN_PROGRESS, None)
            case RemoteState.CANCELLED:
                return outcomes.cancelled(lease, at=self._clock.now())
            case RemoteState.COMPLETED | RemoteState.SUCCEEDED | RemoteState.FAILED:
                return self._ended(lease, await self._result(lease))

    def _ended(self, lease: Lease, result: RemoteResult) -> Change | None:
        at = self._clock.now()
        match result.state:
            case RemoteState.SUCCEEDED:
                assert result.output is not None
                return outcomes.completed(lease, output=result.output, at=at)
            case RemoteState.FAILED:
                assert result.error is not None
                told = result.error.type == outcomes.NO_OUTPUT
                code = outcomes.NO_OUTPUT if told else outcomes.FAILED_UPSTREAM
                return outcomes.failed(lease, code=code, message=result.error.message, at=at)
            case RemoteState.CANCELLED:
                return outcomes.cancelled(lease, at=at)
            case RemoteState.IN_QUEUE | RemoteState.IN_PROGRESS | RemoteState.COMPLETED:
                return None  # the two calls disagree: the next poll asks again

    async def _cancel(self, lease: Lease) -> Change | None:
        """Pass the owner's cancel on, then believe what upstream says of the job itself."""
        outcome = await self._ask_to_cancel(lease)
        seen = await self._advance(lease, await self._status(lease))
        if seen is not None and seen.finished_at is not None:
            return seen
        if outcome is CancelOutcome.NOT_CANCELLABLE:
            at = self._clock.now()
            due_at = self._queue.next_poll(lease, at=at)
            return outcomes.not_cancellable(lease, seen=seen, due_at=due_at, at=at)
        # Granted, asked for or unanswered, and the job still runs: it may yet succeed. The wish
        # stays, so the next poll passes it on again.
        return seen

    async def _ask_to_cancel(self, lease: Lease) -> CancelOutcome | None:
        """Send the cancel; a failure of it, however often, must not keep the job from its end."""
        assert lease.upstream_request_id is not None
        try:
            return await self._upstream.cancel(
                lease.upstream_request_id, timeout=self._config.timeout
            )
        except UpstreamError as exc:
            logger.info(
                "job.cancel_failed", job_id=lease.job_id, reason=exc.message, status=exc.status
            )
            return None

    def _progressed(
        self, lease: Lease, state: JobState, queue_position: int | None
    ) -> Change | None:
        at = self._clock.now()
        return outcomes.progressed(
            lease,
            state=state,
            queue_position=queue_position,
            due_at=self._queue.next_poll(lease, at=at, state=state),
            at=at,
        )

    def _left_alone(self, lease: Lease, error: UpstreamError) -> Change | None:
        """Honour a Retry-After whole; without one the regular appointment stands."""
        if error.retry_after is None:
            return None
        at = self._clock.now()
        return outcomes.postponed(lease, due_at=at + error.retry_after, at=at)

    async def _status(self, lease: Lease) -> RemoteStatus:
        assert lease.upstream_request_id is not None
        return await self._upstream.status(lease.upstream_request_id, timeout=self._config.timeout)

    async def _result(self, lease: Lease) -> RemoteResult:
        assert lease.upstream_request_id is not None
        return await self._upstream.result(lease.upstream_request_id, timeout=self._config.timeout)
