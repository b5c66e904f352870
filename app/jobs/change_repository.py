"""The statements by which workers write what happened to jobs, many at a time."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    Text,
    and_,
    case,
    column,
    func,
    literal,
    null,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.models.base import UtcDateTime
from app.db.rows import Rows
from app.db.statements import table_of
from app.jobs.models import Change
from app.jobs.state import WATCHED

_MILLISECOND = timedelta(milliseconds=1)
_CHANGES = Rows(
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
    column("reported_cost_usd", Text),
    column("detection_milliseconds", BigInteger),
    column("late", Text),
    column("refusals", BigInteger),
    column("lost_polls", BigInteger),
    column("lost_since", UtcDateTime),
    column("watch_until", UtcDateTime),
)


class ChangeRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def apply(self, changes: Sequence[Change]) -> Mapping[str, int | None]:
        """Write each change whose writer still holds the job; return event numbers by job.

        A job that is missing from the answer was moved by somebody else, and stays as it is. One
        that was erased has no events any more, and no number.
        """
        moved = await self._tx.execute(
            _APPLY[self._tx.dialect.name],
            _CHANGES.as_parameter(self._tx, [_row(change) for change in changes]),
        )
        return {row.id: None if row.erased_at else row.event_seq for row in moved}

    async def note_request(
        self,
        job_id: str,
        request_id: str,
        *,
        account: str,
        watch_until: datetime,
        at: datetime,
    ) -> int | None:
        """Take an event number for a request id that came late, unless the job already has that id.

        A job that ended without an id is watched under it from now on.
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


def _apply(new: CTE) -> Any:
    is_news = new.c.state != new.c.from_state
    return (
        update(_JOB)
        .where(
            _JOB.c.id == new.c.id,
            _JOB.c.lease_token == new.c.token,
            _JOB.c.state == new.c.from_state,
        )
        .values(
            state=new.c.state,
            event_seq=_JOB.c.event_seq + case((is_news, 1), else_=0),
            # A cancel requested meanwhile must not wait for the next regular poll.
            due_at=case(
                (new.c.due_at.is_(None), null()),
                (_JOB.c.cancel_requested_at.is_distinct_from(new.c.seen_cancel_at), new.c.at),
                else_=new.c.due_at,
            ),
            lease_token=new.c.lease_token,
            lease_expires_at=new.c.lease_expires_at,
            upstream_request_id=new.c.upstream_request_id,
            queue_position=new.c.queue_position,
            submitted_at=new.c.submitted_at,
            started_at=new.c.started_at,
            # A watched job keeps what ended it, unless it succeeds after all.
            finished_at=case((is_news, new.c.finished_at), else_=_JOB.c.finished_at),
            output=case((is_news, new.c.output), else_=_JOB.c.output),
            error=case((is_news, new.c.error), else_=_JOB.c.error),
            late=new.c.late,
            refusals=new.c.refusals,
            lost_polls=new.c.lost_polls,
            lost_since=new.c.lost_since,
            watch_until=new.c.watch_until,
            cost_state=func.coalesce(new.c.cost_state, _JOB.c.cost_state),
            reported_cost_usd=func.coalesce(new.c.reported_cost_usd, _JOB.c.reported_cost_usd),
            detection_milliseconds=func.coalesce(
                new.c.detection_milliseconds, _JOB.c.detection_milliseconds
            ),
            cancel_outcome=func.coalesce(new.c.cancel_outcome, _JOB.c.cancel_outcome),
            cancel_requested_at=case(
                (new.c.cancel_outcome.is_(None), _JOB.c.cancel_requested_at), else_=null()
            ),
        )
        .returning(_JOB.c.id, _JOB.c.event_seq, _JOB.c.erased_at)
    )


_JOB = table_of(JobRow)
_APPLY = _CHANGES.in_statement(_apply)


def _row(change: Change) -> dict[str, Any]:
    return {
        "id": change.lease.job_id,
        "token": change.lease.token,
        "from_state": change.lease.state.value,
        "seen_cancel_at": change.lease.cancel_requested_at,
        "at": change.at,
        "state": change.state.value,
        "due_at": change.due_at,
        "lease_token": change.lease_token,
        "lease_expires_at": change.lease_expires_at,
        "upstream_request_id": change.upstream_request_id,
        "queue_position": change.queue_position,
        "submitted_at": change.submitted_at,
        "started_at": change.started_at,
        "finished_at": change.finished_at,
        "output": change.output,
        "error": change.error,
        "cancel_outcome": change.cancel_outcome,
        "cost_state": change.cost_state,
        "reported_cost_usd": None
        if change.reported_cost_usd is None
        else str(change.reported_cost_usd),
        "detection_milliseconds": None
        if change.detection_delay is None
        else change.detection_delay // _MILLISECOND,
        "late": change.late,
        "refusals": change.refusals,
        "lost_polls": change.lost_polls,
        "lost_since": change.lost_since,
        "watch_until": change.watch_until,
    }
