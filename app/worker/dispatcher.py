"""Sends pending jobs to RunComfy; again only if a submit has certainly not been accepted."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.core.tracing import Tracing
from app.jobs import outcomes
from app.jobs.inputs import JobInputs
from app.jobs.lanes.accounts import Roster
from app.jobs.models import Attempt, Change, Lease
from app.jobs.queue.submits import SubmitQueue
from app.jobs.recorder import Recorder
from app.jobs.state import JobState
from app.jobs.timing.poll_times import PollTimes
from app.jobs.timing.schedule import Jitter, retry_delay
from app.storage.errors import LostFileError, StorageUnavailableError
from app.upstream.client import UpstreamClient
from app.upstream.errors import (
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
    TryLaterError,
    UpstreamError,
)
from app.worker.loop import LoopConfig, WorkLoop

logger = structlog.get_logger(__name__)

_DATABASE_AWAY = timedelta(seconds=1)
_LAST_WRITE = timedelta(seconds=1)
_REFUSALS = 2  # after these the job is at fault, if the account's other jobs are accepted
_AFTER_A_REFUSAL = timedelta(seconds=61)  # others may probe first


class DispatcherConfig(LoopConfig):
    slots: int = 32
    least: int = 8
    rest: timedelta = timedelta(milliseconds=100)
    idle: timedelta = timedelta(seconds=1)
    grace: timedelta = timedelta(seconds=5)
    lease: timedelta = timedelta(seconds=30)

    @property
    def submit_timeout(self) -> timedelta:
        """Two thirds of the lease; the rest is for waiting beforehand and writing afterwards."""
        return self.lease * 2 / 3


class Dispatcher:
    """The row says `submitting` before a byte is sent, and the lease outlives the whole request.

    What is sent here is followed by `poller`.
    """

    def __init__(
        self,
        *,
        queue: SubmitQueue,
        recorder: Recorder,
        poll_times: PollTimes,
        poller: str,
        roster: Roster,
        upstream: Mapping[str, UpstreamClient],
        inputs: JobInputs,
        config: DispatcherConfig,
        tracing: Tracing,
        clock: Clock,
        jitter: Jitter,
        doorbell: Doorbell,
    ) -> None:
        self._queue = queue
        self._recorder = recorder
        self._poll_times = poll_times
        self._poller = poller
        self._roster = roster
        self._upstream = upstream
        self._inputs = inputs
        self._config = config
        self._tracing = tracing
        self._clock = clock
        self._jitter = jitter
        self.claim = queue.claim
        self.loop = WorkLoop(
            "dispatcher",
            claim=self.claim,
            handle=self.dispatch,
            config=config,
            doorbell=doorbell,
            clock=clock,
        )

    async def dispatch(self, attempt: Attempt) -> None:
        lease = attempt.lease
        with self._tracing.stage("dispatch", of=lease.traceparent, job_id=lease.job_id):
            await self._dispatch(attempt)

    async def _dispatch(self, attempt: Attempt) -> None:
        outcome: Coroutine[Any, Any, object]
        lease, began_at = attempt.lease, self._clock.now()
        try:
            request_id = await self.send(attempt)
        except UpstreamError as exc:
            outcome = self._without_id(lease, exc, began_at=began_at)
        except LostFileError as exc:
            at = self._clock.now()
            lost = outcomes.failed(lease, code="file_lost", message=str(exc), at=at)
            outcome = self._conclude(lost)
        except asyncio.CancelledError:
            reason = "The gateway stopped before the answer came."
            unknown = outcomes.outcome_unknown(lease, reason=reason, at=self._clock.now())
            await _last_try(self._record(unknown))
            raise
        else:
            outcome = self._with_id(lease, request_id, began_at=began_at)
        await _see_through(outcome)

    async def send(self, attempt: Attempt) -> str:
        """Send the one submit of this attempt and return its request id.

        Raises UpstreamError, or LostFileError before anything was sent.
        """
        timeout = self._config.submit_timeout
        begins_by = attempt.covered_until - timeout.total_seconds()
        async with AsyncExitStack() as stack:
            given = await self._prepare(
                attempt, stack, within_s=begins_by - self._clock.monotonic()
            )
            if self._clock.monotonic() > begins_by:
                # Another worker may declare this attempt lost while the answer is on its way.
                raise NotSentError("The lease no longer covers a whole request.")
            upstream = self._upstream[attempt.lease.account]
            return await upstream.submit(attempt.lease.model, given, timeout=timeout)

    async def _prepare(
        self, attempt: Attempt, stack: AsyncExitStack, *, within_s: float
    ) -> dict[str, Any]:
        """Replace the input's files for RunComfy; if that fails, nothing was sent.

        A storage that hangs must not hold a job until it is declared lost.
        """
        try:
            async with asyncio.timeout(within_s):
                return await stack.enter_async_context(
                    self._inputs.resolved(attempt.lease.job_id, attempt.input)
                )
        except TimeoutError as exc:
            logger.warning("job.files_not_read_in_time", job_id=attempt.lease.job_id)
            raise NotSentError("The input's files cannot be read in time.") from exc
        except asyncio.CancelledError as exc:
            raise NotSentError("The gateway stopped before it was sent.") from exc
        except (DatabaseUnavailableError, StorageUnavailableError) as exc:
            raise NotSentError("The input's files cannot be read now.") from exc

    async def _with_id(self, lease: Lease, request_id: str, *, began_at: datetime) -> None:
        await self.follow(lease, request_id)
        await self._heard(lease, None, began_at=began_at)

    async def _without_id(self, lease: Lease, error: UpstreamError, *, began_at: datetime) -> None:
        change = self._what_it_means(lease, error)
        await self._heard(lease, error, began_at=began_at)
        await self._conclude(change)

    async def _heard(
        self, lease: Lease, error: UpstreamError | None, *, began_at: datetime
    ) -> None:
        attempt = f"{lease.job_id}/{lease.attempts}"
        await self._queue.gates.heard(lease.account, error, source=attempt, began_at=began_at)

    async def follow(self, lease: Lease, request_id: str) -> None:
        """Record the request id, even if the job has moved on meanwhile."""
        at = self._clock.now()
        accepted = outcomes.accepted(
            lease,
            request_id=request_id,
            poller=self._poller,
            expires_at=at + self._config.lease,
            due_at=self._poll_times.next_poll(lease, at=at),
            at=at,
        )
        if await self._conclude(accepted):
            return
        note = partial(self._recorder.note_late_request, lease, request_id=request_id)
        if await self._insist(note, lease.job_id, request_id):
            logger.error(
                "job.request_orphaned", job_id=lease.job_id, upstream_request_id=request_id
            )

    async def _conclude(self, change: Change) -> bool:
        """Write what became of an attempt, even if it was meanwhile given up as unknown."""
        if await self._record(change):
            return True
        late = replace(change, lease=replace(change.lease, state=JobState.SUBMIT_UNKNOWN))
        if change.state is JobState.SUBMIT_UNKNOWN or not await self._record(late):
            return False
        logger.warning(
            "job.outcome_came_late", job_id=change.lease.job_id, state=change.state.value
        )
        return True

    async def _record(self, change: Change) -> bool:
        record = partial(self._recorder.record, change)
        return await self._insist(record, change.lease.job_id, change.upstream_request_id)

    async def _insist(
        self, write: Callable[[], Awaitable[bool]], job_id: str, request_id: str | None
    ) -> bool:
        """Keep trying to write what may have cost money, however long the database is away."""
        while True:
            try:
                return await write()
            except DatabaseUnavailableError:
                logger.warning(
                    "job.outcome_waits_for_database", job_id=job_id, upstream_request_id=request_id
                )
                await self._clock.sleep(_DATABASE_AWAY)

    def _what_it_means(self, lease: Lease, error: UpstreamError) -> Change:
        at = self._clock.now()
        match error:
            case NotSentError() | TryLaterError():
                # Upstream's Retry-After closes the lane: all sending waits, not this job alone.
                wait = retry_delay(lease.attempts, jitter=self._jitter())
                return outcomes.not_accepted(lease, reason=error.message, due_at=at + wait, at=at)
            case RefusedError() if error.account_problem and not self._is_at_fault(lease, error):
                # Only refusals on an open lane count, not those of probes of a closed one.
                return outcomes.not_accepted(
                    lease,
                    reason=error.message,
                    due_at=at + self._after_a_refusal(lease, error),
                    refusals=max(
                        1, lease.refusals + (not self._queue.gates.troubled(lease.account))
                    ),
                    at=at,
                )
            case RefusedError():
                return outcomes.failed(lease, code="refused_upstream", message=error.message, at=at)
            case OutcomeUnknownError():
                return outcomes.outcome_unknown(lease, reason=error.message, at=at)
            case _:
                raise AssertionError(f"an unsorted {type(error).__name__}") from error

    def _is_at_fault(self, lease: Lease, error: RefusedError) -> bool:
        """Whether the account's other jobs are accepted, and only this one keeps being refused."""
        is_alone = lease.refusals >= _REFUSALS and self._queue.gates.served_lately(lease.account)
        return error.could_be_the_call and is_alone

    def _after_a_refusal(self, lease: Lease, error: RefusedError) -> timedelta:
        """Try the other accounts at once, unless the job itself may be at fault."""
        others = len(self._roster.takers) - 1
        if lease.refusals < others and not error.could_be_the_call:
            return timedelta()
        return _AFTER_A_REFUSAL


async def _see_through(write: Coroutine[Any, Any, object]) -> None:
    """Finish a write even if told to stop, unless the database is away by then."""
    writing = asyncio.ensure_future(write)
    worker = asyncio.current_task()
    if worker is not None and worker.cancelling():  # told to stop before the outcome was known
        await _last_try(writing)
        return
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await _last_try(writing)
        raise


async def _last_try(write: Awaitable[object]) -> None:
    """Give a write the short time a process has left: by the event loop's time, not a Clock's."""
    writing = asyncio.ensure_future(write)
    _, late = await asyncio.wait({writing}, timeout=_LAST_WRITE.total_seconds())
    for task in late:
        task.cancel()
