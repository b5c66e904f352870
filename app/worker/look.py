"""One look at a job upstream, passing on its owner's cancel, and what the answers mean."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import structlog

from app.core.clock import Clock
from app.jobs import outcomes
from app.jobs.models import Change, Lease
from app.jobs.state import JobState
from app.jobs.timing.poll_times import PollTimes
from app.upstream.client import UpstreamClient
from app.upstream.errors import RefusedError, UpstreamError
from app.upstream.wire import CancelOutcome, RemoteResult, RemoteState, RemoteStatus

logger = structlog.get_logger(__name__)

_REFUSED_FOR = timedelta(minutes=1)


class Look:
    """A job ends here only if upstream says that it has ended; a failure to answer is raised.

    For a watched job only a success still counts.
    """

    def __init__(
        self,
        *,
        poll_times: PollTimes,
        upstream: Mapping[str, UpstreamClient],
        timeout: timedelta,
        charge_late: bool,
        clock: Clock,
    ) -> None:
        self._poll_times = poll_times
        self._upstream = upstream
        self._timeout = timeout
        self._charge_late = charge_late
        self._clock = clock

    async def at(self, lease: Lease) -> Change | None:
        if lease.cancel_requested_at is not None:
            change = await self._cancel(lease)
        else:
            change = await self._advance(lease, await self._status(lease))
        if change is None and lease.lost_polls:
            at = self._clock.now()
            due_at = self._poll_times.next_poll(lease, at=at)
            return outcomes.postponed(lease, due_at=due_at, at=at)
        return change

    async def _advance(self, lease: Lease, status: RemoteStatus) -> Change | None:
        match status.state:
            case RemoteState.IN_QUEUE:
                return self._progressed(lease, JobState.IN_QUEUE, status.queue_position)
            case RemoteState.IN_PROGRESS:
                return self._progressed(lease, JobState.IN_PROGRESS, None)
            case RemoteState.CANCELLED:
                return self._cancelled(lease)
            case RemoteState.COMPLETED | RemoteState.SUCCEEDED | RemoteState.FAILED:
                upstream = self._upstream[lease.account]
                result = await upstream.result(lease.request_id, timeout=self._timeout)
                change = self._ended(lease, result)
                return change and replace(
                    change,
                    reported_cost_usd=result.cost_usd,
                    detection_delay=self._detected(lease, result),
                )

    def _ended(self, lease: Lease, result: RemoteResult) -> Change | None:
        at = self._clock.now()
        match result.state:
            case RemoteState.SUCCEEDED:
                assert result.output is not None
                return outcomes.completed(
                    lease, output=result.output, charges_late=self._charge_late, at=at
                )
            case RemoteState.FAILED if lease.finished_at is not None:
                return outcomes.unwatched(lease, at=at)
            case RemoteState.FAILED:
                assert result.error is not None
                told = result.error.type == outcomes.NO_OUTPUT
                code = outcomes.NO_OUTPUT if told else outcomes.FAILED_UPSTREAM
                return outcomes.failed(lease, code=code, message=result.error.message, at=at)
            case RemoteState.CANCELLED:
                return self._cancelled(lease)
            case RemoteState.IN_QUEUE | RemoteState.IN_PROGRESS | RemoteState.COMPLETED:
                return None  # status and result disagree: the next poll asks again

    def _detected(self, lease: Lease, result: RemoteResult) -> timedelta | None:
        """Return how long the job's end went unseen; None if it had already ended here."""
        if result.finished_at is None or lease.finished_at is not None:
            return None
        # Clocks that disagree must not make negative delays.
        return max(timedelta(), self._clock.now() - result.finished_at)

    def _cancelled(self, lease: Lease) -> Change | None:
        if lease.finished_at is not None:
            return None
        at = self._clock.now()
        return outcomes.cancelled(lease, watch=self._poll_times.watch(at=at), at=at)

    async def _cancel(self, lease: Lease) -> Change | None:
        """Pass the owner's cancel on, then believe what upstream says of the job itself."""
        outcome = await self._ask_to_cancel(lease)
        seen = await self._advance(lease, await self._status(lease))
        if seen is not None and seen.finished_at is not None:
            return seen
        if outcome is CancelOutcome.NOT_CANCELLABLE:
            at = self._clock.now()
            due_at = self._poll_times.next_poll(lease, at=at)
            return outcomes.not_cancellable(lease, seen=seen, due_at=due_at, at=at)
        # Granted, requested or unanswered, yet the job still runs, and may succeed. The owner's
        # request stays, so the next poll passes it on again.
        return seen

    async def _ask_to_cancel(self, lease: Lease) -> CancelOutcome | None:
        """Send the cancel; its failures, however many, must not keep the job from its end."""
        try:
            upstream = self._upstream[lease.account]
            return await upstream.cancel(lease.request_id, timeout=self._timeout)
        except UpstreamError as exc:
            logger.info(
                "job.cancel_failed", job_id=lease.job_id, reason=str(exc), status=exc.status
            )
            # A refusal that stands comes back at each poll. If it concerns more than the cancel,
            # the next call fails too, and nothing of this is written.
            stands = isinstance(exc, RefusedError) and self._is_old(lease)
            return CancelOutcome.NOT_CANCELLABLE if stands else None

    def _is_old(self, lease: Lease) -> bool:
        at = lease.cancel_requested_at
        return at is not None and self._clock.now() - at >= _REFUSED_FOR

    def _progressed(
        self, lease: Lease, state: JobState, queue_position: int | None
    ) -> Change | None:
        if not outcomes.is_news(lease, state, queue_position):
            return None
        at = self._clock.now()
        due_at = self._poll_times.next_poll(lease, at=at, state=state)
        return outcomes.progressed(
            lease, state=state, queue_position=queue_position, due_at=due_at, at=at
        )

    async def _status(self, lease: Lease) -> RemoteStatus:
        upstream = self._upstream[lease.account]
        return await upstream.status(lease.request_id, timeout=self._timeout)
