"""The statements with which workers record what happened to jobs, many at a time."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Text,
    and_,
    case,
    column,
    func,
    literal,
    null,
    or_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.models.base import UtcDateTime
from app.db.rows import Rows
from app.db.statements import table_of
from app.jobs.models import Change
from app.jobs.state import WATCHED, JobState

_JOB = table_of(JobRow)
_MILLISECOND = timedelta(milliseconds=1)

# The columns that every change sets.
_ALWAYS = (
    "state",
    "lease_token",
    "lease_expires_at",
    "upstream_request_id",
    "queue_position",
    "submitted_at",
    "started_at",
    "late",
    "refusals",
    "lost_polls",
    "lost_since",
    "watch_until",
)
# A watched job keeps what ended it, unless it succeeds after all.
_WITH_A_NEW_STATE = ("finished_at", "output", "error")
# None leaves these as they are.
_IF_GIVEN = ("cost_state", "cancel_outcome", "reported_cost_usd", "detection_milliseconds")

_CHANGES = Rows(
    column("id", Text),
    column("token", Text),
    column("from_state", Text),
    column("seen_cancel_at", UtcDateTime),
    column("at", UtcDateTime),
    *(_JOB.c[name] for name in ("account", "due_at", *_ALWAYS, *_WITH_A_NEW_STATE, *_IF_GIVEN)),
)


class ChangeRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def apply(self, changes: Sequence[Change]) -> Mapping[str, int | None]:
        """Write each change whose writer still holds the job; return event numbers by job.

        A job missing from the result was moved by somebody else and is left as it is. An erased
        job has no events any more, so its number is None.
        """
        moved = await _APPLY.execute(self._tx, [_row(change) for change in changes])
        return {row.id: None if row.erased_at else row.event_seq for row in moved}

    async def note_request(
        self, job_id: str, request_id: str, *, account: str, watch_until: datetime, at: datetime
    ) -> int | None:
        """Take an event number for a late request id; None if the job has that id or is gone.

        A job that has ended is watched under this id from now on, unless it is watched already.
        """
        unwatched = and_(JobRow.state.in_(WATCHED), JobRow.due_at.is_(None))
        new = {
            "account": account,
            "upstream_request_id": request_id,
            "watch_until": watch_until,
            "due_at": at,
            "lease_expires_at": at,
        }
        taken = await self._tx.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.upstream_request_id.is_distinct_from(request_id))
            .values(
                {
                    name: case((unwatched, literal(value, _JOB.c[name].type)), else_=_JOB.c[name])
                    for name, value in new.items()
                }
                | {"event_seq": JobRow.event_seq + 1}
            )
            .returning(JobRow.event_seq)
        )
        return taken.scalar_one_or_none()


def _is_adopted(new: CTE) -> ColumnElement[bool]:
    return and_(new.c.from_state == JobState.SUBMIT_UNKNOWN, new.c.state == JobState.IN_QUEUE)


def _apply(new: CTE) -> Any:
    is_news = new.c.state != new.c.from_state
    return (
        update(_JOB)
        .where(
            _JOB.c.id == new.c.id,
            # An unknown submit adopts the request of any attempt, even one before a resubmit.
            or_(_JOB.c.lease_token == new.c.token, _is_adopted(new)),
            _JOB.c.state == new.c.from_state,
        )
        .values(
            {name: new.c[name] for name in _ALWAYS}
            | {name: case((is_news, new.c[name]), else_=_JOB.c[name]) for name in _WITH_A_NEW_STATE}
            | {name: func.coalesce(new.c[name], _JOB.c[name]) for name in _IF_GIVEN}
            | {
                "account": new.c.account,
                "event_seq": _JOB.c.event_seq + case((is_news, 1), else_=0),
                # A cancel requested meanwhile must not wait for the next regular poll.
                "due_at": case(
                    (new.c.due_at.is_(None), null()),
                    (_JOB.c.cancel_requested_at.is_distinct_from(new.c.seen_cancel_at), new.c.at),
                    else_=new.c.due_at,
                ),
                "cancel_requested_at": case(
                    (new.c.cancel_outcome.is_(None), _JOB.c.cancel_requested_at), else_=null()
                ),
            }
        )
        .returning(_JOB.c.id, _JOB.c.event_seq, _JOB.c.erased_at)
    )


_APPLY = _CHANGES.in_statement(_apply)


def _row(change: Change) -> dict[str, Any]:
    cost, delay = change.reported_cost_usd, change.detection_delay
    return {
        "id": change.lease.job_id,
        "token": change.lease.token,
        "from_state": change.lease.state,
        "seen_cancel_at": change.lease.cancel_requested_at,
        "at": change.at,
        "account": change.lease.account,
        "due_at": change.due_at,
        **{name: getattr(change, name) for name in (*_ALWAYS, *_WITH_A_NEW_STATE)},
        "cost_state": change.cost_state,
        "cancel_outcome": change.cancel_outcome,
        "reported_cost_usd": None if cost is None else str(cost),
        "detection_milliseconds": None if delay is None else delay // _MILLISECOND,
    }
