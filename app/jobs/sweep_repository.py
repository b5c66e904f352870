"""The statements that end jobs whose time is over, many at a time but never all at once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.statements import instant, one_of
from app.jobs.repository import cancelled_here
from app.jobs.state import FOLLOWED, JobState


class SweepRepository:
    """Each statement moves at most `at_once` jobs, since later ones name every job that moved.

    `since` has the times that `OVERDUE` asks for. All return event numbers by job.
    """

    def __init__(self, tx: AsyncConnection, *, at_once: int, since: Mapping[str, datetime]) -> None:
        self._tx = tx
        self._at_once = at_once
        self._since = since

    async def expire_submits(self) -> Mapping[str, int]:
        """Give up on attempts whose lease has run out."""
        return await self._move(
            _EXPIRED, {"state": JobState.SUBMIT_UNKNOWN, "event_seq": JobRow.event_seq + 1}
        )

    async def drop_called_off(self) -> Mapping[str, int]:
        """Cancel waiting jobs that were called off, or that have not started in time."""
        return await self._move(or_(_WITHDRAWN, _NOT_STARTED), cancelled_here(self._since["at"]))

    async def give_up_unknown(
        self, *, error: Mapping[str, Any], cost_state: str
    ) -> Mapping[str, int]:
        """Fail what no operator settled in time."""
        return await self._move(_FORGOTTEN, {**self._failed(error), "cost_state": cost_state})

    async def time_out(
        self, *, error: Mapping[str, Any], watch_until: datetime
    ) -> Mapping[str, int]:
        """Fail what nobody could poll in its last moments; it is still watched."""
        return await self._move(
            _TIMED_OUT,
            {
                **self._failed(error),
                "cost_state": "released",
                "queue_position": None,
                "watch_until": watch_until,
                "lease_token": None,
                "lease_expires_at": self._since["at"],
            },
        )

    def _failed(self, error: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "state": JobState.FAILED,
            "finished_at": self._since["at"],
            "error": dict(error),
            "event_seq": JobRow.event_seq + 1,
        }

    async def _move(
        self, condition: ColumnElement[bool], values: Mapping[str, Any]
    ) -> Mapping[str, int]:
        some = (
            select(JobRow.id)
            .where(condition)
            .limit(self._at_once)
            .with_for_update(skip_locked=True)
        )
        moved = await self._tx.execute(
            update(JobRow)
            .where(JobRow.id.in_(some.cte("some").select()), condition)
            .values(values)
            .returning(JobRow.id, JobRow.event_seq),
            self._since,
        )
        return {row.id: row.event_seq for row in moved}


_EXPIRED = and_(JobRow.state == JobState.SUBMITTING, JobRow.lease_expires_at <= instant("at"))
_WITHDRAWN = and_(JobRow.state == JobState.PENDING, JobRow.cancel_requested_at.is_not(None))
_NOT_STARTED = and_(JobRow.state == JobState.PENDING, JobRow.start_deadline_at <= instant("at"))
_FORGOTTEN = and_(
    JobRow.state == JobState.SUBMIT_UNKNOWN,
    JobRow.lease_expires_at <= instant("forgotten_before"),
)
# Past its time and long due: pollers, which look before they end a job, cannot get to it.
_UNSEEN = and_(
    JobRow.due_at <= instant("unseen_since"),
    JobRow.submitted_at <= instant("sent_before"),
    JobRow.lease_expires_at <= instant("at"),
)
_TIMED_OUT = and_(one_of(JobRow.state, FOLLOWED), _UNSEEN)
OVERDUE = (
    (_EXPIRED, JobRow.due_at),
    (_WITHDRAWN, JobRow.cancel_requested_at),
    (_NOT_STARTED, JobRow.start_deadline_at),
    (_FORGOTTEN, JobRow.due_at),
    *((and_(JobRow.state == state, _UNSEEN), JobRow.due_at) for state in sorted(FOLLOWED)),
)
"""The kinds of jobs that need something done, each in the order of an index."""
