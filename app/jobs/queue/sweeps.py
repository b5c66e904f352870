"""Ends what only time can end: attempts, jobs called off while waiting, overdue jobs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.statements import instant, one_of
from app.jobs.moves import MOVED, Move, move_of, record_moves
from app.jobs.outcomes import TIMED_OUT
from app.jobs.queue.config import QueueConfig
from app.jobs.repository import cancelled_here
from app.jobs.state import FOLLOWED, JobState

_NEVER = datetime.min.replace(tzinfo=UTC)
_NEVER_KNOWN = {
    "code": "submit_unknown",
    "message": "It was never found out whether RunComfy has this job.",
}


class Sweeps:
    def __init__(self, config: QueueConfig) -> None:
        self._config = config

    def since(self, *, at: datetime, awake_since: datetime) -> Mapping[str, datetime]:
        """Return the times that `OVERDUE` takes as parameters.

        A process that has only just woken up first lets pollers see, for the length of a lease,
        what has ended meanwhile.
        """
        unseen_since = at - self._config.lease
        return {
            "at": at,
            "forgotten_before": at - self._config.unknown_life,
            "sent_before": at - self._config.job_timeout,
            "unseen_since": unseen_since if awake_since <= unseen_since else _NEVER,
        }

    async def run(
        self, tx: AsyncConnection, *, since: Mapping[str, datetime], at: datetime
    ) -> Sequence[Move]:
        """Move what is overdue, write its events and end its holds."""
        config, failed = self._config, {"state": JobState.FAILED, "finished_at": at}
        unknown = {"state": JobState.SUBMIT_UNKNOWN}
        forgotten = {"error": _NEVER_KNOWN, "cost_state": config.unknown_ends}
        watched = {
            "error": TIMED_OUT,
            "cost_state": "released",
            "queue_position": None,
            "watch_until": at + config.late_watch,
            "lease_token": None,
            "lease_expires_at": at,
        }
        moves = [
            *await self._move(tx, _EXPIRED, unknown, since),
            *await self._move(tx, or_(_WITHDRAWN, _NOT_STARTED), cancelled_here(at), since),
            *await self._move(tx, _FORGOTTEN, failed | forgotten, since),
            *await self._move(tx, _TIMED_OUT, failed | watched, since),
        ]
        await record_moves(tx, moves, at=at)
        return moves

    async def _move(
        self,
        tx: AsyncConnection,
        overdue: ColumnElement[bool],
        values: Mapping[str, Any],
        since: Mapping[str, datetime],
    ) -> Sequence[Move]:
        """Change these jobs, up to `swept_at_once` of them."""
        some = (
            select(JobRow.id)
            .where(overdue)
            .limit(self._config.swept_at_once)
            .with_for_update(skip_locked=True)
        )
        moved = await tx.execute(
            update(JobRow)
            .where(JobRow.id.in_(some.cte("some").select()), overdue)
            .values({**values, "event_seq": JobRow.event_seq + 1})
            .returning(*MOVED),
            since,
        )
        return [move_of(row) for row in moved]


_EXPIRED = and_(JobRow.state == JobState.SUBMITTING, JobRow.lease_expires_at <= instant("at"))
_WITHDRAWN = and_(JobRow.state == JobState.PENDING, JobRow.cancel_requested_at.is_not(None))
_NOT_STARTED = and_(JobRow.state == JobState.PENDING, JobRow.start_deadline_at <= instant("at"))
# Submits that no operator settled in time.
_FORGOTTEN = and_(
    JobRow.state == JobState.SUBMIT_UNKNOWN, JobRow.lease_expires_at <= instant("forgotten_before")
)
# Past its time and long due: pollers, which look before they end a job, do not get to it.
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
"""The kinds of jobs whose time is up, each with the column of an index that finds them."""
