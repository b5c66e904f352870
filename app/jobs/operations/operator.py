"""What operators may do with jobs: look at everything, and end what is stuck by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import log as audit
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.ids import is_id
from app.db.engine import Database
from app.events import log
from app.events.log import JobEvent
from app.jobs.errors import JobNotFoundError, RequestTakenError, WrongStateError
from app.jobs.lanes.repository import DISPATCH, LaneRepository
from app.jobs.models import CostState, Job, JobFilter
from app.jobs.moves import Move, log_moves, record_moves
from app.jobs.operations.invariants import Violation, violations
from app.jobs.operations.repository import Internals, ManualChange, OperatorRepository
from app.jobs.repository import JobRepository
from app.jobs.state import FOLLOWED, JobState
from app.quotas.entries import Entry
from app.quotas.repository import QuotaRepository

_STUCK = frozenset({JobState.SUBMIT_UNKNOWN, *FOLLOWED})
_UNKNOWN = frozenset({JobState.SUBMIT_UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    job: Job
    internals: Internals
    ledger: Sequence[Entry]
    events: Sequence[JobEvent]


class OperatorJobs:
    """Every action is one transaction with its audit entry, and returns what became of the hold."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        dispatcher: Doorbell,
        poller: Doorbell,
        late_watch: timedelta,
        deliverer: Doorbell,
    ) -> None:
        self._database = database
        self._clock = clock
        self._dispatcher = dispatcher
        self._poller = poller
        self._late_watch = late_watch
        self._deliverer = deliverer

    async def page(
        self, *, user_id: str | None, matching: JobFilter, before: str | None, limit: int
    ) -> Sequence[tuple[Job, Internals]]:
        async def work(connection: AsyncConnection) -> Sequence[tuple[Job, Internals]]:
            jobs = await JobRepository(connection).page(
                user_id=user_id, matching=matching, before=before, limit=limit
            )
            internals = await OperatorRepository(connection).find([job.id for job in jobs])
            if len(internals) < len(jobs):  # one was erased in between: read the page again
                return await work(connection)
            return [(job, internals[job.id]) for job in jobs]

        return await self._database.search(work)

    async def get(self, job_id: str) -> JobDetail:
        async def work(connection: AsyncConnection) -> JobDetail | None:
            jobs = await JobRepository(connection).find_many([job_id])
            internals = await OperatorRepository(connection).find([job_id])
            if job_id not in jobs or job_id not in internals:
                return None
            return JobDetail(
                job=jobs[job_id],
                internals=internals[job_id],
                ledger=await QuotaRepository(connection).find_entries(job_id),
                events=await log.read(connection, job_id),
            )

        detail = await self._database.read(work) if is_id(job_id, prefix="job") else None
        if detail is None:
            raise JobNotFoundError(job_id)
        return detail

    async def poll(self, job_id: str, *, actor: str) -> CostState:
        """Have a worker look at the job at once."""
        change = ManualChange(sources=FOLLOWED, state=None)
        return await self._act("job.poll", job_id, change, actor=actor)

    async def adopt(self, job_id: str, *, request_id: str, actor: str) -> CostState:
        """Follow a request that turned out to be this job's; raises RequestTakenError."""
        change = ManualChange(
            sources=_UNKNOWN, state=JobState.IN_QUEUE, upstream_request_id=request_id
        )
        return await self._act("job.adopt", job_id, change, actor=actor)

    async def settle(self, job_id: str, *, actor: str) -> CostState:
        """End a stuck job as failed and charge its hold."""
        return await self._end("job.settle", job_id, "settled", actor=actor)

    async def release(self, job_id: str, *, actor: str) -> CostState:
        """End a stuck job as failed and free its hold."""
        return await self._end("job.release", job_id, "released", actor=actor)

    async def fail(self, job_id: str, *, actor: str) -> CostState:
        """End a job that is not final, waiting ones included, as failed and free its hold."""
        return await self._end(
            "job.fail", job_id, "released", actor=actor, sources=_STUCK | {JobState.PENDING}
        )

    async def resubmit(self, job_id: str, *, actor: str) -> CostState:
        """Send a job again whose submit is known not to have reached RunComfy."""
        change = ManualChange(sources=_UNKNOWN, state=JobState.PENDING)
        return await self._act("job.resubmit", job_id, change, actor=actor)

    async def violations(self) -> Sequence[Violation]:
        """Return the invariants that are broken now; the list should be empty."""
        return await self._database.search(violations, is_long=True)

    async def _end(
        self,
        action: str,
        job_id: str,
        cost_state: CostState,
        *,
        actor: str,
        sources: frozenset[JobState] = _STUCK,
    ) -> CostState:
        message = "An operator ended this job."
        change = ManualChange(
            sources=sources,
            state=JobState.FAILED,
            error={"code": "ended_by_operator", "message": message},
            cost_state=cost_state,
            watch=self._late_watch,
        )
        return await self._act(action, job_id, change, actor=actor)

    async def _act(
        self, action: str, job_id: str, change: ManualChange, *, actor: str
    ) -> CostState:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> tuple[Sequence[Move], CostState]:
            operators = OperatorRepository(tx)
            request_id = change.upstream_request_id
            if request_id is not None:
                # Two calls may adopt one request for different jobs, which share no row to lock.
                await LaneRepository(tx).lock(DISPATCH)
            before = (await operators.find([job_id], lock=True)).get(job_id)
            if before is None:
                raise JobNotFoundError(job_id)
            if request_id is not None and (holder := await JobRepository(tx).holder_of(request_id)):
                raise RequestTakenError(request_id, holder)
            moved = await operators.move(job_id, change, at=at)
            if moved is None:
                raise WrongStateError(action, before.state, sorted(change.sources))
            moves = [] if change.state is None else [moved]
            await record_moves(tx, moves, at=at, note={"by": "operator", "action": action})
            after = (await operators.find([job_id]))[job_id]
            await audit.append(
                tx,
                at=at,
                actor=actor,
                action=action,
                target=job_id,
                before=_recorded(before),
                after=_recorded(after),
            )
            return moves, after.cost_state

        if not is_id(job_id, prefix="job"):
            raise JobNotFoundError(job_id)
        moves, outcome = await self._database.transact(work)
        log_moves(moves)
        for loop in (self._dispatcher, self._poller, self._deliverer):
            loop.ring()
        return outcome


def _recorded(internals: Internals) -> dict[str, Any]:
    return {
        "state": internals.state.value,
        "upstream_request_id": internals.upstream_request_id,
        "hold": internals.cost_state,
    }
