"""The statements with which workers claim jobs, many at a time."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    bindparam,
    column,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.models.base import UtcDateTime
from app.db.prepared import made_once
from app.db.records import columns_of, record_of
from app.db.rows import Rows
from app.db.statements import among, instant, table_of
from app.jobs.lanes.accounts import ACCOUNT, IS_OPEN_UPSTREAM
from app.jobs.lanes.pause import PAUSED
from app.jobs.models import Attempt, Lease
from app.jobs.moves import Move, move_of
from app.jobs.queue.sweeps import OVERDUE
from app.jobs.state import FOLLOWED, WATCHED, JobState
from app.jobs.waiting.repository import IS_STARTABLE, startable
from app.upstream.accounts import DEFAULT

_JOBS = table_of(JobRow)
_LEASED = (_JOBS.c.id, *columns_of(JobRow, Lease))
_NEXT_POLLS = Rows(
    column("id", Text),
    column("due_at", UtcDateTime),
    column("token", Text),
    column("expires_at", UtcDateTime),
)
_RESCHEDULE = _NEXT_POLLS.in_statement(
    lambda new: (
        update(_JOBS)
        .where(_JOBS.c.id == new.c.id)
        .values(due_at=new.c.due_at, lease_token=new.c.token, lease_expires_at=new.c.expires_at)
    )
)


class QueueRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def has_due_polls(self, *, poller: str, at: datetime, accounts: Sequence[str]) -> bool:
        found = await self._tx.execute(
            _POLLS_TO_MAKE, {"poller": poller, "at": at, "accounts": accounts}
        )
        return bool(found.scalar_one())

    async def look_for_work(self, since: Mapping[str, datetime]) -> tuple[bool, bool]:
        """Return whether any waiting job may be sent now, and whether any job is overdue."""
        is_startable, is_overdue = (await self._tx.execute(_WORK, since)).one()
        return bool(is_startable), bool(is_overdue)

    async def start_submits(
        self,
        job_ids: Sequence[str],
        *,
        account: str,
        token: str,
        at: datetime,
        expires_at: datetime,
        covered_until: float,
    ) -> Sequence[tuple[Attempt, Move]]:
        """Move these jobs, except those that left the line, to `submitting`."""
        claimed = await self._tx.execute(
            _START,
            {
                "ids": job_ids,
                "at": at,
                "to_account": account,
                "token": token,
                "expires_at": expires_at,
            },
        )
        return [
            (
                Attempt(
                    lease=_lease(row, token=token, expires_at=expires_at),
                    input=row.input,
                    covered_until=covered_until,
                ),
                move_of(row),
            )
            for row in sorted(claimed, key=lambda row: str(row.id))
        ]

    async def still_claimed(self, leases: Sequence[Lease]) -> Collection[str]:
        """Return which of these jobs are still exactly as a claim of submits left them."""
        found = await self._tx.execute(
            select(JobRow.id).where(
                JobRow.id.in_([lease.job_id for lease in leases]),
                JobRow.lease_token.in_({lease.token for lease in leases}),
                JobRow.state == JobState.SUBMITTING,
            )
        )
        return set(found.scalars())

    async def call_off_late_starters(self, *, at: datetime) -> None:
        """Request the cancel of jobs still in upstream's queue when they should have started."""
        await self._tx.execute(_CALL_OFF, {"at": at})

    async def due_polls(
        self,
        *,
        poller: str,
        accounts: Sequence[str],
        at: datetime,
        expires_at: datetime,
        limit: int,
    ) -> Sequence[tuple[Lease, datetime]]:
        """Lock the jobs that are due and free for `poller`; return each with when it became due.

        Those of other accounts are left to processes that know their tokens.
        """
        due = await self._tx.execute(
            _DUE, {"poller": poller, "accounts": accounts, "at": at, "most": limit}
        )
        return [(_lease(row, token=poller, expires_at=expires_at), row.due_at) for row in due]

    async def reschedule(self, leases: Iterable[tuple[Lease, datetime]]) -> None:
        """Take the leases and set when each job is due again, whatever its poll finds."""
        poll_times = [
            {
                "id": lease.job_id,
                "due_at": due_at,
                "token": lease.token,
                "expires_at": lease.expires_at,
            }
            for lease, due_at in leases
        ]
        await _RESCHEDULE.execute(self._tx, poll_times)

    async def free_leases(self, *, at: datetime) -> None:
        """End every lease; only for a caller that knows that no other process holds one."""
        await self._tx.execute(
            update(JobRow)
            .where(IS_OPEN_UPSTREAM, JobRow.lease_expires_at > at)
            .values(lease_expires_at=at)
        )


def _any_job(*kinds: tuple[ColumnElement[bool], SQLColumnExpression[Any]]) -> ColumnElement[bool]:
    """Whether there is a job of any of these kinds; one look each, since an OR uses no index.

    Each takes the first row in index order, which an EXISTS cannot ask for: Postgres, which plans
    without knowing the times, would assume that all jobs are due, and scan the table.
    """
    looks = (select(JobRow.id).where(kind).order_by(along).limit(1) for kind, along in kinds)
    return or_(*(look.scalar_subquery().is_not(None) for look in looks))


def _lease(row: Any, *, token: str, expires_at: datetime) -> Lease:
    return record_of(
        Lease,
        row,
        job_id=row.id,
        token=token,
        expires_at=expires_at,
        # RETURNING gives the state after the claim, SELECT the state before; a claim of polls
        # changes none, so in both cases it is the state to write against.
        state=JobState(row.state),
        account=row.account or DEFAULT,
        input_class=row.input_class or "",
    )


def _due_polls() -> Select[*tuple[Any, ...]]:
    # State by state: only then does an index give the first of many without sorting them all.
    first = union_all(
        *(
            select(
                select(_JOBS.c.id)
                .where(_JOBS.c.state == state, _MAY_TAKE, _OF_ACCOUNTS)
                .order_by(_JOBS.c.due_at)
                .limit(bindparam("most"))
                .subquery()
            )
            for state in sorted(FOLLOWED | WATCHED)
        )
    )
    return (
        select(*_LEASED, _JOBS.c.due_at)
        # Tested again, since another process may just have taken some. Not the state: a followed
        # job never goes back to waiting, and SQLite would search all that is due.
        .where(_JOBS.c.id.in_(first), _MAY_TAKE)
        .order_by(_JOBS.c.due_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )


_AT = instant("at")
# Cancelled only once: upstream may take long over it, or refuse.
_LATE_STARTER = and_(
    _JOBS.c.state == JobState.IN_QUEUE.value,
    _JOBS.c.start_deadline_at <= _AT,
    _JOBS.c.cancel_requested_at.is_(None),
    _JOBS.c.cancel_outcome.is_(None),
)
# Due, and held by nobody else: a poller keeps its jobs as long as it comes back to them.
_MAY_TAKE = and_(
    _JOBS.c.due_at <= _AT,
    or_(_JOBS.c.lease_token == bindparam("poller"), _JOBS.c.lease_expires_at <= _AT),
)
_OF_ACCOUNTS = among(ACCOUNT, "accounts")
_START = made_once(
    update(_JOBS)
    .where(among(_JOBS.c.id, "ids"), IS_STARTABLE)
    .values(
        state=JobState.SUBMITTING.value,
        account=bindparam("to_account"),
        attempts=_JOBS.c.attempts + 1,
        event_seq=_JOBS.c.event_seq + 1,
        due_at=None,
        lease_token=bindparam("token"),
        lease_expires_at=instant("expires_at"),
    )
    .returning(*_LEASED, _JOBS.c.input, _JOBS.c.event_seq)
)
_CALL_OFF = made_once(
    update(_JOBS).where(_LATE_STARTER).values(cancel_requested_at=_AT, due_at=_AT)
)
_DUE = made_once(_due_polls())
_WORK = made_once(
    select(and_(_any_job((startable(JobRow), JobRow.due_at)), ~PAUSED.exists()), _any_job(*OVERDUE))
)
_POLLS_TO_MAKE = made_once(
    select(
        _any_job(
            *(
                (and_(JobRow.state == state, _MAY_TAKE, _OF_ACCOUNTS), JobRow.due_at)
                for state in sorted(FOLLOWED | WATCHED)
            ),
            (_LATE_STARTER, JobRow.start_deadline_at),
        )
    )
)
