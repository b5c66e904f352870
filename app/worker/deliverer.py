"""Delivers webhooks, retrying until the receiver accepts them or about a day has passed."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.owners import owner_of
from app.core.timestamps import rfc3339
from app.core.tracing import Tracing
from app.jobs.models import Job
from app.jobs.service import JobService
from app.jobs.state import TERMINAL, JobState
from app.jobs.timing.schedule import Jitter
from app.jobs.wire import JobWire
from app.webhooks.events import state_of
from app.webhooks.models import Attempt, DeliveryLease, Outcome
from app.webhooks.queue import DeliveryQueue
from app.webhooks.schedule import retry_delay
from app.webhooks.sender import Answer, WebhookSender
from app.webhooks.signing import NoSecretError, signed_headers
from app.worker.loop import LoopConfig, WorkLoop

logger = structlog.get_logger(__name__)

_GONE = 410


class DelivererConfig(LoopConfig):
    slots: int = 128
    idle: timedelta = timedelta(milliseconds=500)
    grace: timedelta = timedelta(seconds=3)
    timeout: timedelta = timedelta(seconds=15)


class Deliverer:
    """Delivers at least once: what was sent but not recorded is sent again, with its old id."""

    def __init__(
        self,
        *,
        queue: DeliveryQueue,
        sender: WebhookSender,
        jobs: JobService,
        wire: JobWire,
        config: DelivererConfig,
        tracing: Tracing,
        clock: Clock,
        jitter: Jitter,
        doorbell: Doorbell,
    ) -> None:
        self._queue = queue
        self._sender = sender
        self._jobs = jobs
        self._wire = wire
        self._tracing = tracing
        self._clock = clock
        self._jitter = jitter
        self._doorbell = doorbell
        self._under_way: dict[tuple[str, str], DeliveryLease] = {}
        self.loop = WorkLoop(
            "deliverer",
            claim=self.claim,
            handle=self.deliver,
            config=config,
            doorbell=doorbell,
            clock=clock,
        )

    async def claim(self, limit: int) -> Sequence[tuple[DeliveryLease, Job | None]]:
        leases = await self._queue.claim(limit=limit, under_way=self._under_way.values())
        named = {lease.job_id for lease in leases if lease.job_id is not None}
        jobs = await self._jobs.find_many(sorted(named))
        self._under_way |= {(lease.id, lease.token): lease for lease in leases}
        return [(lease, jobs.get(lease.job_id or "")) for lease in leases]

    async def deliver(self, piece: tuple[DeliveryLease, Job | None]) -> None:
        lease, job = piece
        traceparent = None if job is None else job.traceparent
        try:
            with self._tracing.stage("webhook", of=traceparent, job_id=lease.job_id):
                answer = await self._attempt_safely(lease, job)
                if answer is not None:
                    await self._queue.record(self._outcome(lease, answer))
        finally:
            del self._under_way[lease.id, lease.token]
            if self._queue.has_room_again(lease.lane, self._under_way.values()):
                self._doorbell.ring()

    async def _attempt_safely(self, lease: DeliveryLease, job: Job | None) -> Answer | None:
        """Attempt it; a bug of ours counts as an attempt, or it would recur with every lease."""
        try:
            return await self.attempt(lease, job)
        except Exception:
            logger.exception("webhook.not_attempted", delivery_id=lease.id)
            return Answer(milliseconds=0, error="internal")

    async def attempt(self, lease: DeliveryLease, job: Job | None) -> Answer | None:
        """Send the message as it reads now; None if its job, and so the message, was erased."""
        if lease.obstacle is not None:
            return Answer(milliseconds=0, error=lease.obstacle)
        if lease.job_id is not None and job is None:
            return None
        at = self._clock.now()
        body = json.dumps(self._payload(lease, job, at=at), ensure_ascii=False)
        try:
            headers = signed_headers(lease.secrets, message_id=lease.id, body=body, at=at)
        except NoSecretError:
            return Answer(milliseconds=0, error="no_secret")
        return await self._sender.post(lease.url, body=body, headers=headers)

    def _payload(self, lease: DeliveryLease, job: Job | None, *, at: datetime) -> Mapping[str, Any]:
        """Render the job with links signed now."""
        data: dict[str, Any] = {"endpoint": lease.endpoint_id}
        if job is not None:
            data = self._wire.read(_shown(job, lease), at=at).model_dump(mode="json")
            # What goes to a job's own address is signed for the service that acts for its user.
            receiver = lease.user_id if lease.endpoint_id else owner_of(job.user_id)
            if job.user_id != receiver:
                data["user"] = job.user_id
        return {"type": lease.type, "timestamp": rfc3339(lease.event_at), "data": data}

    def _outcome(self, lease: DeliveryLease, answer: Answer) -> Outcome:
        at = self._clock.now()
        delivered = answer.error is None
        gone = answer.status_code == _GONE and lease.endpoint_id is not None
        delay = None
        if not (delivered or gone or lease.obstacle):
            delay = retry_delay(lease.step, jitter=self._jitter(), retry_after=answer.retry_after)
        return Outcome(
            lease=lease,
            attempt=Attempt(
                at=at,
                milliseconds=answer.milliseconds,
                status_code=answer.status_code,
                error=answer.error,
                body=answer.body,
            ),
            delivered=delivered,
            due_at=None if delay is None else at + delay,
            gone=gone,
        )


def _shown(job: Job, lease: DeliveryLease) -> Job:
    """Return the job as it was when it entered the event's state; for a final one, as it is now."""
    state = JobState(state_of(lease.type) or job.state)
    return job if state is job.state or state in TERMINAL else job.as_of(state, at=lease.event_at)
