"""The statements by which workers claim jobs and write what became of them, many at a time."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Text,
    and_,
    case,
    column,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
    values,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow, SwitchRow
from app.db.models.base import UtcDateTime
from app.db.statements import typed_rows
from app.jobs.accounts import ACCOUNT
from app.jobs.lane_repository import DISPATCH, LaneRepository
from app.jobs.line_repository import startable
from app.jobs.models import Attempt, Change, Lease
from app.jobs.state import FOLLOWED, WATCHED, JobState
from app.upstream.accounts import DEFAULT

_LEASED = (
    JobRow.id,
    JobRow.state,
    JobRow.model,
    JobRow.attempts,
    JobRow.account,
    JobRow.upstream_request_id,
    JobRow.queue_position,
    JobRow.cancel_requested_at,
    JobRow.created_at,
    JobRow.submitted_at,
    JobRow.started_at,
    JobRow.input_class,
    JobRow.finished_at,
    JobRow.watch_until,
    JobRow.cost_state,
    JobRow.lost_polls,
    JobRow.lost_since,
    JobRow.refusals,
    JobRow.traceparent,
)

_APPOINTMENTS = (column("id", Text), column("due_at", UtcDateTime))

_CHANGES = (
    column("id", Text),
    column("token", Text),
    column("from_state", Text),
    column("seen_cancel_at", UtcDateTime),
    column("at", UtcDateTime),
    column("state", Text),
    column("due_at", UtcDateTime),
    column("lease_token", Text),
    column("lease_expires_at", UtcDateTime),
    column("upstream_request_id", Text),
    column("queue_position", BigInteger),
    column("submitted_at", UtcDateTime),
    column("started_at", UtcDateTime),
    column("finished_at", UtcDateTime),
    column("output", JSON(none_as_null=True)),
    column("error", JSON(none_as_null=True)),
    column("cancel_outcome", Text),
    column("cost_state", Text),
    column("late", Text),
    column("refusals", BigInteger),
    column("lost_polls", BigInteger),
    column("lost_since", UtcDateTime),
    column("watch_until", UtcDateTime),
)


class QueueRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def has_due_polls(self, *, poller: str, at: datetime, accounts: Sequence[str]) -> bool:
        ours = and_(_pollable(poller, at), ACCOUNT.in_(accounts))
        return await any_job(self._tx, ours, _late_starter(at))

    async def take_dispatch_turn(self) -> None:
        """Wait until no other dispatcher is between counting free places and filling them."""
        await LaneRepository(self._tx).lock(DISPATCH)

    async def start_submits(
        self,
        job_ids: Sequence[str],
        *,
        account: str,
        token: str,
        at: datetime,
        expires_at: datetime,
        covered_until: float,
    ) -> Sequence[tuple[Attempt, int]]:
        """Move these jobs to `submitting`, but for who left the line; with their event numbers."""
        claimed = await self._tx.execute(
            update(JobRow)
            .where(JobRow.id.in_(job_ids), startable(JobRow, at))
            .values(
                state=JobState.SUBMITTING,
                account=account,
                attempts=JobRow.attempts + 1,
                event_seq=JobRow.event_seq + 1,
                due_at=None,
                lease_token=token,
                lease_expires_at=expires_at,
            )
            .returning(*_LEASED, JobRow.input, JobRow.event_seq)
        )
        return [
            (
                Attempt(
                    lease=_lease(row, token=token, expires_at=expires_at),
                    input=row.input,
                    covered_until=covered_until,
                ),
                row.event_seq,
            )
            for row in sorted(claimed, key=lambda row: str(row.id))
        ]

    async def call_off_late_starters(self, *, at: datetime) -> None:
        """Ask upstream to cancel what is still in its queue when it should have started."""
        await self._tx.execute(
            update(JobRow)
            .where(_late_starter(at))
            .values(cancel_requested_at=at, start_deadline_at=None, due_at=at)
        )

    async def is_on(self, switch: str) -> bool:
        found = await self._tx.execute(select(SwitchRow.is_on).where(SwitchRow.name == switch))
        return bool(found.scalar_one_or_none())

    async def due_polls(
        self,
        *,
        poller: str,
        accounts: Sequence[str],
        at: datetime,
        expires_at: datetime,
        limit: int,
    ) -> Sequence[tuple[Lease, datetime]]:
        """Lock the jobs that are due and free for `poller`; each with when it was due first.

        Those of other accounts are for who knows their tokens.
        """
        # State by state, since only so an index gives the first of many without sorting them all.
        first = union_all(
            *(
                select(
                    select(JobRow.id)
                    .where(JobRow.state == state, _free_and_due(poller, at), ACCOUNT.in_(accounts))
                    .order_by(JobRow.due_at)
                    .limit(limit)
                    .subquery()
                )
                for state in sorted(FOLLOWED | WATCHED)
            )
        )
        due = await self._tx.execute(
            select(*_LEASED, JobRow.due_at)
            .where(JobRow.id.in_(first), _pollable(poller, at))
            .order_by(JobRow.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return [(_lease(row, token=poller, expires_at=expires_at), row.due_at) for row in due]

    async def reschedule(self, leases: Mapping[Lease, datetime]) -> None:
        """Take the leases and set when each job is due again, whatever its poll will find."""
        next_polls = (
            values(*_APPOINTMENTS, name="next_polls")
            .data(
                typed_rows(
                    _APPOINTMENTS, [(lease.job_id, due_at) for lease, due_at in leases.items()]
                )
            )
            .cte("next_polls")
        )
        lease = next(iter(leases))
        await self._tx.execute(
            update(JobRow)
            .where(JobRow.id == next_polls.c.id)
            .values(
                due_at=next_polls.c.due_at,
                lease_token=lease.token,
                lease_expires_at=lease.expires_at,
            )
        )

    async def apply(self, changes: Sequence[Change]) -> Mapping[str, int]:
        """Write each change whose writer still holds the job; gives event numbers by job.

        A job that is missing from the answer was moved by somebody else, and stays as it is.
        """
        new = (
            values(*_CHANGES, name="new")
            .data(typed_rows(_CHANGES, [_row(change) for change in changes]))
            .cte("new")
        )
        is_news = new.c.state != new.c.from_state
        moved = await self._tx.execute(
            update(JobRow)
            .where(
                JobRow.id == new.c.id,
                JobRow.lease_token == new.c.token,
                JobRow.state == new.c.from_state,
            )
            .values(
                state=new.c.state,
                event_seq=JobRow.event_seq + case((is_news, 1), else_=0),
                # A cancel that was asked for meanwhile must not wait for the next regular poll.
                due_at=case(
                    (new.c.due_at.is_(None), null()),
                    (JobRow.cancel_requested_at.is_distinct_from(new.c.seen_cancel_at), new.c.at),
                    else_=new.c.due_at,
                ),
                lease_token=new.c.lease_token,
                lease_expires_at=new.c.lease_expires_at,
                upstream_request_id=new.c.upstream_request_id,
                queue_position=new.c.queue_position,
                submitted_at=new.c.submitted_at,
                started_at=new.c.started_at,
                # What ended a watched job stays, until it has succeeded after all.
                finished_at=case((is_news, new.c.finished_at), else_=JobRow.finished_at),
                output=case((is_news, new.c.output), else_=JobRow.output),
                error=case((is_news, new.c.error), else_=JobRow.error),
                late=new.c.late,
                refusals=new.c.refusals,
                lost_polls=new.c.lost_polls,
                lost_since=new.c.lost_since,
                watch_until=new.c.watch_until,
                cost_state=func.coalesce(new.c.cost_state, JobRow.cost_state),
                cancel_outcome=func.coalesce(new.c.cancel_outcome, JobRow.cancel_outcome),
                cancel_requested_at=case(
                    (new.c.cancel_outcome.is_(None), JobRow.cancel_requested_at), else_=null()
                ),
            )
            .returning(JobRow.id, JobRow.event_seq)
        )
        return {row.id: row.event_seq for row in moved}

    async def note_request(
        self,
        job_id: str,
        request_id: str,
        *,
        account: str,
        watch_until: datetime,
        at: datetime,
    ) -> int | None:
        """Take an event number for a request id that came late, unless the job has this very one.

        A job that has ended without any is watched by it from now on.
        """
        orphan = and_(JobRow.state.in_(WATCHED), JobRow.upstream_request_id.is_(None))
        new = {
            "account": account,
            "upstream_request_id": request_id,
            "submitted_at": at,
            "watch_until": watch_until,
            "due_at": at,
            "lease_expires_at": at,
        }
        taken = await self._tx.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.upstream_request_id.is_distinct_from(request_id))
            .values(
                {
                    name: case(
                        (orphan, literal(value, JobRow.__table__.c[name].type)),
                        else_=JobRow.__table__.c[name],
                    )
                    for name, value in new.items()
                }
                | {"event_seq": JobRow.event_seq + 1}
            )
            .returning(JobRow.event_seq)
        )
        return taken.scalar_one_or_none()

    async def free_leases(self, *, at: datetime) -> None:
        """End every lease; only for who knows that no other process holds one."""
        await self._tx.execute(
            update(JobRow).where(JobRow.lease_expires_at > at).values(lease_expires_at=at)
        )


def waiting(at: datetime) -> ColumnElement[bool]:
    return startable(JobRow, at)


async def any_job(tx: AsyncConnection, *conditions: ColumnElement[bool]) -> bool:
    """Look for a job of any kind; one look each, since an OR would use no index."""
    looks = [select(JobRow.id).where(condition).limit(1).exists() for condition in conditions]
    return bool((await tx.execute(select(or_(*looks)))).scalar_one())


def _late_starter(at: datetime) -> ColumnElement[bool]:
    return and_(JobRow.state == JobState.IN_QUEUE, JobRow.start_deadline_at <= at)


def _pollable(poller: str, at: datetime) -> ColumnElement[bool]:
    """Due, and held by nobody else: a poller keeps its jobs for as long as it comes back."""
    return and_(JobRow.state.in_(FOLLOWED | WATCHED), _free_and_due(poller, at))


def _free_and_due(poller: str, at: datetime) -> ColumnElement[bool]:
    return and_(
        JobRow.due_at <= at, or_(JobRow.lease_token == poller, JobRow.lease_expires_at <= at)
    )


def _lease(row: Any, *, token: str, expires_at: datetime) -> Lease:
    return Lease(
        job_id=row.id,
        token=token,
        expires_at=expires_at,
        # RETURNING gives the state after the claim, SELECT the state before; a claim of polls
        # changes none, so it is the state to write against in both.
        state=JobState(row.state),
        model=row.model,
        attempts=row.attempts,
        account=row.account or DEFAULT,
        upstream_request_id=row.upstream_request_id,
        queue_position=row.queue_position,
        cancel_requested_at=row.cancel_requested_at,
        created_at=row.created_at,
        submitted_at=row.submitted_at,
        started_at=row.started_at,
        input_class=row.input_class or "",
        finished_at=row.finished_at,
        watch_until=row.watch_until,
        cost_state=row.cost_state,
        lost_polls=row.lost_polls,
        lost_since=row.lost_since,
        refusals=row.refusals,
        traceparent=row.traceparent,
    )


def _row(change: Change) -> tuple[Any, ...]:
    return (
        change.lease.job_id,
        change.lease.token,
        change.lease.state.value,
        change.lease.cancel_requested_at,
        change.at,
        change.state.value,
        change.due_at,
        change.lease_token,
        change.lease_expires_at,
        change.upstream_request_id,
        change.queue_position,
        change.submitted_at,
        change.started_at,
        change.finished_at,
        change.output,
        change.error,
        change.cancel_outcome,
        change.cost_state,
        change.late,
        change.refusals,
        change.lost_polls,
        change.lost_since,
        change.watch_until,
    )
