"""The statements on jobs for operators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import case, literal, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.models.base import UtcDateTime
from app.db.records import columns_of, record_of
from app.jobs.models import CostState
from app.jobs.moves import MOVED, Move, move_of
from app.jobs.state import FOLLOWED, TERMINAL, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Internals:
    """What a job's owner does not see."""

    state: JobState
    cost_state: CostState
    reported_cost_usd: Decimal | None
    attempts: int
    account: str | None
    upstream_request_id: str | None
    due_at: datetime | None
    lease_expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualChange:
    """A change by hand from one of `sources`; without a `state` it only makes the job due.

    If upstream has the job, it is still polled for the time of `watch` after its end.
    """

    sources: frozenset[JobState]
    state: JobState | None
    error: dict[str, Any] | None = None
    upstream_request_id: str | None = None
    cost_state: CostState | None = None
    watch: timedelta | None = None


class OperatorRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def find(self, job_ids: Sequence[str], *, lock: bool = False) -> Mapping[str, Internals]:
        jobs = select(JobRow.id, *columns_of(JobRow, Internals)).where(JobRow.id.in_(job_ids))
        found = await self._tx.execute(jobs.with_for_update() if lock else jobs)
        return {
            row.id: record_of(
                Internals,
                row,
                state=JobState(row.state),
                reported_cost_usd=row.reported_cost_usd and Decimal(row.reported_cost_usd),
            )
            for row in found
        }

    async def move(self, job_id: str, change: ManualChange, *, at: datetime) -> Move | None:
        """Change the job if it is in one of the sources.

        A job that has not ended is due at once. A new state revokes the lease: a worker that still
        holds the job can write nothing any more.
        """
        has_ended = change.state in TERMINAL
        new: dict[str, Any] = {"due_at": None if has_ended else at}
        if change.state is not None:
            new |= {
                "state": change.state,
                "event_seq": JobRow.event_seq + 1,
                "queue_position": None,
                "lease_token": None,
                "lease_expires_at": at if change.state in FOLLOWED else None,
                "finished_at": at if has_ended else None,
                "error": change.error,
            }
        if change.upstream_request_id is not None:
            new |= {"upstream_request_id": change.upstream_request_id, "submitted_at": at}
        if change.watch is not None:
            # A request at upstream may still succeed, whatever was decided here.
            is_there = JobRow.upstream_request_id.is_not(None)
            watched = {"watch_until": at + change.watch, "due_at": at, "lease_expires_at": at}
            new |= {
                name: case((is_there, literal(time, UtcDateTime)), else_=null())
                for name, time in watched.items()
            }
        if change.cost_state is not None:
            new["cost_state"] = change.cost_state
        moved = await self._tx.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.state.in_(change.sources))
            .values(new)
            .returning(*MOVED)
        )
        row = moved.one_or_none()
        return None if row is None else move_of(row)

    async def send_refused_again(self, *, at: datetime) -> None:
        """Make jobs that were refused because of the account due now."""
        await self._tx.execute(
            update(JobRow)
            .where(JobRow.state == JobState.PENDING, JobRow.refusals > 0, JobRow.due_at > at)
            .values(due_at=at)
        )
