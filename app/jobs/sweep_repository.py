"""The statements that end what time alone has ended, many jobs at a time but never all at once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.statements import Instant, instant
from app.jobs.repository import cancelled_here
from app.jobs.state import FOLLOWED, JobState


class SweepRepository:
    """Each statement moves at most `at_once` jobs, since later ones name every job that moved."""

    def __init__(self, tx: AsyncConnection, *, at_once: int) -> None:
        self._tx = tx
        self._at_once = at_once

    async def expire_submits(self, *, at: datetime) -> Mapping[str, int]:
        """Give up on attempts whose lease has run out; gives event numbers by job."""
        moved = await self._tx.execute(
            update(JobRow)
            .where(self._some(_overdue(at)))
            .values(state=JobState.SUBMIT_UNKNOWN, event_seq=JobRow.event_seq + 1)
            .returning(JobRow.id, JobRow.event_seq)
        )
        return {row.id: row.event_seq for row in moved}

    async def drop_called_off(self, *, at: datetime) -> Mapping[str, int]:
        """Cancel what waits here and was called off, or has not started in its time."""
        moved = await self._tx.execute(
            update(JobRow)
            .where(self._some(_called_off(at)))
            .values(cancelled_here(at))
            .returning(JobRow.id, JobRow.event_seq)
        )
        return {row.id: row.event_seq for row in moved}

    async def give_up_unknown(
        self, *, sent_before: datetime, error: Mapping[str, Any], cost_state: str, at: datetime
    ) -> Mapping[str, int]:
        """Fail what nobody settled in its hours; gives event numbers by job."""
        moved = await self._tx.execute(
            update(JobRow)
            .where(self._some(_forgotten(sent_before)))
            .values(
                state=JobState.FAILED,
                finished_at=at,
                error=dict(error),
                cost_state=cost_state,
                event_seq=JobRow.event_seq + 1,
            )
            .returning(JobRow.id, JobRow.event_seq)
        )
        return {row.id: row.event_seq for row in moved}

    async def time_out(
        self,
        timed_out: ColumnElement[bool],
        *,
        error: Mapping[str, Any],
        watch_until: datetime,
        at: datetime,
    ) -> Mapping[str, int]:
        """Fail what nobody could look at in its last moments; it is watched all the same."""
        moved = await self._tx.execute(
            update(JobRow)
            .where(self._some(timed_out))
            .values(
                state=JobState.FAILED,
                finished_at=at,
                error=dict(error),
                cost_state="released",
                queue_position=None,
                watch_until=watch_until,
                lease_token=None,
                lease_expires_at=at,
                event_seq=JobRow.event_seq + 1,
            )
            .returning(JobRow.id, JobRow.event_seq)
        )
        return {row.id: row.event_seq for row in moved}

    def _some(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        some = (
            select(JobRow.id)
            .where(condition)
            .limit(self._at_once)
            .with_for_update(skip_locked=True)
        )
        return and_(JobRow.id.in_(some.cte("some").select()), condition)


def timed_out(*, sent_before: Instant, unseen_since: Instant, at: Instant) -> ColumnElement[bool]:
    """Past its time and due for long: pollers, who look before they end a job, are kept from it."""
    return and_(
        JobRow.state.in_(FOLLOWED),
        JobRow.due_at <= unseen_since,
        JobRow.submitted_at <= sent_before,
        JobRow.lease_expires_at <= at,
    )


def _called_off(at: Instant) -> ColumnElement[bool]:
    return and_(
        JobRow.state == JobState.PENDING,
        or_(JobRow.cancel_requested_at.is_not(None), JobRow.start_deadline_at <= at),
    )


def _forgotten(sent_before: Instant) -> ColumnElement[bool]:
    return and_(JobRow.state == JobState.SUBMIT_UNKNOWN, JobRow.lease_expires_at <= sent_before)


def _overdue(at: Instant) -> ColumnElement[bool]:
    return and_(JobRow.state == JobState.SUBMITTING, JobRow.lease_expires_at <= at)


OVERDUE = (
    _overdue(instant("at")),
    _called_off(instant("at")),
    _forgotten(instant("forgotten_before")),
    timed_out(
        sent_before=instant("sent_before"), unseen_since=instant("unseen_since"), at=instant("at")
    ),
)
"""The kinds of jobs that there is something to do about."""
