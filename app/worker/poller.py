"""Follows jobs at RunComfy to their end, and carries out their owners' cancels."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from functools import cache

import structlog

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.metrics import Metrics
from app.core.tracing import Tracing
from app.jobs import outcomes
from app.jobs.models import Change, Lease
from app.jobs.queue.polls import PollQueue
from app.jobs.recorder import Recorder
from app.jobs.state import TERMINAL
from app.jobs.timing.poll_times import PollTimes
from app.upstream.client import UpstreamClient
from app.upstream.errors import UpstreamError
from app.worker.gathering import Gathering
from app.worker.look import Look
from app.worker.loop import LoopConfig, WorkLoop

logger = structlog.get_logger(__name__)

_RECORD_UNKNOWN = "404001"
_LOST_POLLS = 5
_LOST_FOR = timedelta(minutes=2)
_LOST_LOOK = timedelta(seconds=20)


class PollerConfig(LoopConfig):
    slots: int = 1024
    least: int = 512
    pause: timedelta = timedelta(milliseconds=250)
    idle: timedelta = timedelta(milliseconds=500)
    grace: timedelta = timedelta(seconds=3)
    polls_at_once: int = 128
    gathering: timedelta = timedelta(milliseconds=200)
    timeout: timedelta = timedelta(seconds=10)
    charge_late: bool = True


class Poller:
    """Ends no job early for lack of an answer, and goes on watching one whose time was up."""

    def __init__(
        self,
        *,
        queue: PollQueue,
        recorder: Recorder,
        poll_times: PollTimes,
        upstream: Mapping[str, UpstreamClient],
        config: PollerConfig,
        metrics: Metrics,
        tracing: Tracing,
        clock: Clock,
        doorbell: Doorbell,
    ) -> None:
        self._queue = queue
        self._recorder = recorder
        self._poll_times = poll_times
        self._look = Look(
            poll_times=poll_times,
            upstream=upstream,
            timeout=config.timeout,
            charge_late=config.charge_late,
            clock=clock,
        )
        self._polls = cache(metrics.polls.labels)
        self._tracing = tracing
        self._clock = clock
        # Each job's latest claim, until what its poll found is written.
        self._under_way: dict[str, Lease] = {}
        self._unanswered = 0
        self._connections = asyncio.Semaphore(config.polls_at_once)
        self._gathering = Gathering(at_most=config.gathering)
        self.loop = WorkLoop(
            "poller",
            claim=self.claim,
            handle=self.poll,
            config=config,
            doorbell=doorbell,
            clock=clock,
        )

    async def claim(self, limit: int) -> list[Lease]:
        leases = await self._queue.claim(limit)
        # A slow answer, or a slow write of it, may outlast the time of the next poll: each job has
        # only one poll at a time.
        again = {lease.job_id: lease for lease in leases if lease.job_id in self._under_way}
        self._under_way |= again
        return [lease for lease in leases if lease.job_id not in again]

    async def poll(self, lease: Lease) -> None:
        self._under_way[lease.job_id] = lease
        try:
            with self._tracing.stage("poll", of=lease.traceparent, job_id=lease.job_id):
                await self._poll(lease)
        finally:
            del self._under_way[lease.job_id]

    async def _poll(self, lease: Lease) -> None:
        began_at, error = self._clock.now(), None
        self._unanswered += 1
        try:
            async with self._connections:
                change = await self._look.at(lease)
        except UpstreamError as exc:
            error = exc
            change = self._without_answer(lease, exc)
            logger.info("job.poll_failed", job_id=lease.job_id, reason=str(exc), status=exc.status)
        finally:
            self._unanswered -= 1
        self._polls(_found(lease, change, error)).inc()
        await self._queue.gates.heard(lease.account, error, source=lease.job_id, began_at=began_at)
        if not self._unanswered:
            self._gathering.release()
        change = self._end_if_overdue(lease, change)
        last_claim = self._under_way[lease.job_id]
        if change is None and last_claim.cancel_requested_at != lease.cancel_requested_at:
            # The early poll that the cancel asked for was dropped while this one was under way.
            at = self._clock.now()
            change = outcomes.postponed(lease, due_at=at, at=at)
        if change is None:
            return
        if self._unanswered and lease.cancel_requested_at is None:  # somebody waits for a cancel
            await self._gathering.wait()
        await self._recorder.record(change)

    def _end_if_overdue(self, lease: Lease, change: Change | None) -> Change | None:
        """After a last look, fail a job whose time is up, or stop watching it."""
        at = self._clock.now()
        if change is not None and change.finished_at is not None:
            return change
        if lease.watch_until is not None:
            return outcomes.unwatched(lease, at=at) if at >= lease.watch_until else change
        if at >= self._poll_times.times_out_at(lease):
            return outcomes.given_up(
                lease, error=outcomes.TIMED_OUT, watch=self._poll_times.watch(at=at), at=at
            )
        return change

    def _without_answer(self, lease: Lease, error: UpstreamError) -> Change | None:
        """Say what a failed poll changes; none ends a job, unless upstream has lost it for minutes.

        A Retry-After is honoured in full; without one, or with 0, the next regular poll stands.
        """
        at = self._clock.now()
        if error.error_code == _RECORD_UNKNOWN and lease.watch_until is None:
            soon = min(self._poll_times.next_poll(lease, at=at), at + _LOST_LOOK)
            change = outcomes.record_unknown(lease, due_at=soon, at=at)
            since = change.lost_since or at
            if change.lost_polls >= _LOST_POLLS and at - since >= _LOST_FOR:
                return outcomes.given_up(
                    lease, error=outcomes.UPSTREAM_LOST, watch=self._poll_times.watch(at=at), at=at
                )
            return change
        if not error.retry_after:
            return None
        due_at = self._poll_times.before_time_out(lease, at + error.retry_after, at=at)
        return outcomes.postponed(lease, due_at=due_at, at=at)


def _found(lease: Lease, change: Change | None, error: UpstreamError | None) -> str:
    if error is not None:
        return "failed"
    if change is None or change.state is lease.state:
        return "unchanged"
    return "ended" if change.state in TERMINAL else "advanced"
