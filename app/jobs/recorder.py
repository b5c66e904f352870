"""Records what happened to jobs, with all that follows: events, ledger, copies, durations."""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.metrics import Metrics
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.events.log import JobEvent
from app.jobs.announce import announce
from app.jobs.change_repository import ChangeRepository
from app.jobs.models import Change, Lease, output_urls
from app.jobs.moves import ENDINGS
from app.jobs.outcomes import observed
from app.jobs.queue.config import QueueConfig
from app.jobs.repository import JobRepository
from app.jobs.timing.repository import DurationRepository
from app.quotas import ledger
from app.storage import copies

logger = structlog.get_logger(__name__)


class Recorder:
    def __init__(
        self,
        *,
        database: Database,
        config: QueueConfig,
        metrics: Metrics,
        clock: Clock,
        deliverer: Doorbell,
    ) -> None:
        self._database = database
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._deliverer = deliverer
        self.record = NaturalBatch(self._record_all)
        """Write one change; return whether it counted: once the lease is lost it does not."""

    async def note_late_request(self, lease: Lease, *, request_id: str) -> bool:
        """Keep a request id that came after the job had moved on: it may be billed, and is watched.

        Returns whether the caller should report it: not if the job already has this id, since only
        the answer of that commit was lost; but also if the job was erased meanwhile, and there is
        nothing to keep the id with.
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
            if seq is None:  # the job has this id already, or was erased
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

    async def _record_all(self, changes: Sequence[Change]) -> Sequence[bool]:
        seqs, to_deliver = await self._database.transact(lambda tx: self._write(tx, changes))
        if to_deliver:
            self._deliverer.ring()
        for change in changes:
            self._report(change, counted=change.lease.job_id in seqs)
        return [change.lease.job_id in seqs for change in changes]

    async def _write(
        self, tx: AsyncConnection, changes: Sequence[Change]
    ) -> tuple[Mapping[str, int | None], bool]:
        """Return the event numbers of those that counted, and whether webhooks were queued."""
        at = self._clock.now()
        seqs = await ChangeRepository(tx).apply(changes)
        moved = [
            change
            for change in changes
            if change.lease.job_id in seqs and change.state is not change.lease.state
        ]
        seen = [(change, seq) for change in moved if (seq := seqs[change.lease.job_id])]
        to_deliver = await announce(tx, [_event(change, seq) for change, seq in seen])
        endings = {
            change.lease.job_id: ENDINGS[change.cost_state]
            for change in moved
            if change.cost_state is not None
        }
        late = [change.lease.job_id for change in moved if change.late == "charged"]
        await ledger.end_all(tx, endings, late=late, at=at)
        if self._config.archives:
            await copies.enqueue(tx, _outputs_of(change for change, _ in seen), at=at)
        ended = itertools.chain.from_iterable(map(observed, moved))
        await DurationRepository(tx).observe(ended, at=at)
        return seqs, to_deliver

    def _report(self, change: Change, *, counted: bool) -> None:
        job_id, state = change.lease.job_id, change.state.value
        if not counted:
            self._metrics.lease_losses.labels("job").inc()
            logger.warning("job.lease_lost", job_id=job_id, state=state)
        elif change.state is not change.lease.state:
            self._metrics.moves.labels(state).inc()
            if change.detection_delay is not None:
                self._metrics.detection_delay.observe(change.detection_delay.total_seconds())
            logger.info(
                "job.advanced",
                job_id=job_id,
                state=state,
                attempts=change.lease.attempts,
                upstream_request_id=change.upstream_request_id,
            )


def _event(change: Change, seq: int) -> JobEvent:
    return JobEvent(
        job_id=change.lease.job_id, seq=seq, type=change.state.value, at=change.at, data=change.note
    )


def _outputs_of(changes: Iterable[Change]) -> Mapping[str, int]:
    """Count each job's outputs; only a success has any."""
    return {change.lease.job_id: len(output_urls(change.output)) for change in changes}
