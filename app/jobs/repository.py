"""The statements on jobs for clients; those for workers are in `queue` and `change_repository`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import (
    ClientTokenRow,
    JobEventRow,
    JobFileRow,
    JobRow,
    OutputRow,
    WebhookDeliveryRow,
)
from app.db.prepared import made_once
from app.db.records import columns_of, record_of
from app.db.statements import among, newest
from app.db.users import disabled_among
from app.jobs.models import Job, JobFilter, Priority
from app.jobs.moves import MOVED, Move, move_of
from app.jobs.outcomes import CANCELLED_LOCALLY
from app.jobs.state import FOLLOWED, TERMINAL, JobState
from app.jobs.waiting.positions import with_places
from app.quotas.policy import Measure, from_units


class JobRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def find_signed(self, job_id: str) -> Job | None:
        """Find a job, whoever owns it, unless its user or the service behind them is disabled."""
        found = await self._tx.execute(_JOBS_BY_ID, {"ids": [job_id]})
        row = found.one_or_none()
        if row is None or await disabled_among(self._tx, {row.user_id}):
            return None
        return job_from_row(row)

    async def holder_of(self, request_id: str) -> str | None:
        """Return the id of the job that already has this upstream request, if any."""
        found = await self._tx.execute(
            select(JobRow.id).where(JobRow.upstream_request_id == request_id).limit(1)
        )
        return found.scalar_one_or_none()

    async def erase(self, job_id: str, *, user_id: str, at: datetime) -> bool:
        """Delete a job that has ended, with its events and outputs; False if it has not ended.

        A watched job stays, emptied and hidden, so that a late success is charged.
        """
        final = and_(
            JobRow.id == job_id, JobRow.user_id == user_id, JobRow.state.in_(TERMINAL), _IS_THERE
        )
        erased = await self._tx.execute(
            delete(JobRow).where(final, JobRow.watch_until.is_(None)).returning(JobRow.id)
        )
        if erased.scalar_one_or_none() is not None:
            return True
        # Tried second: a late request id may have made it watched while the DELETE waited.
        emptied = await self._tx.execute(
            update(JobRow).where(final).values(_emptied(at)).returning(JobRow.id)
        )
        if emptied.scalar_one_or_none() is None:
            return False
        for row in PARTS:
            await self._tx.execute(delete(row).where(row.job_id == job_id))
        return True

    async def find_many(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        found = await self._tx.execute(_JOBS_BY_ID, {"ids": job_ids})
        jobs = await with_places(self._tx, [job_from_row(row) for row in found])
        return {job.id: job for job in jobs}

    async def page(
        self, *, user_id: str | None, matching: JobFilter, before: str | None, limit: int
    ) -> Sequence[Job]:
        """Return up to `limit` jobs of one user or of all, newest first, older than `before`."""
        conditions = self._conditions(matching)
        if user_id is not None:
            conditions.append(JobRow.user_id == user_id)
        if matching.states is not None:
            if self._tx.dialect.name == "sqlite":
                parts = _parts(matching.states, of_all=user_id is None)
                conditions = [_is_newest_of_a_part(conditions, parts, before, limit)]
            else:
                conditions.append(JobRow.state.in_(matching.states))
        page = newest(_JOBS.where(*conditions), by=JobRow.id, before=before, limit=limit)
        found = await self._tx.execute(page)
        return await with_places(self._tx, [job_from_row(row) for row in found])

    async def cancel_pending(self, job_id: str, *, user_id: str, at: datetime) -> Move | None:
        """Cancel a job that was never sent; None if it was."""
        moved = await self._tx.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.user_id == user_id, JobRow.state == JobState.PENDING)
            .values({**cancelled_here(at), "start_deadline_at": None})
            .returning(*MOVED)
        )
        row = moved.one_or_none()
        return None if row is None else move_of(row)

    async def request_cancel(self, job_id: str, *, user_id: str, at: datetime) -> None:
        """Leave the request to the worker that has the job, if any will look at it.

        A job that was being sent may be back to `pending` by now: the request counts there too.
        """
        await self._tx.execute(
            update(JobRow)
            .where(
                JobRow.id == job_id,
                JobRow.user_id == user_id,
                JobRow.state.in_([JobState.PENDING, JobState.SUBMITTING, *FOLLOWED]),
            )
            .values(
                cancel_requested_at=func.coalesce(JobRow.cancel_requested_at, literal(at)),
                cancel_outcome=None,
                start_deadline_at=None,
                due_at=case((JobRow.state == JobState.SUBMITTING, null()), else_=literal(at)),
            )
        )

    async def confirm(self, job_id: str) -> None:
        """Let the commit wait until a standby has all that is known of a job.

        One that was told to stop waiting for its standby is seen, and may be lost with the server.
        """
        await self._tx.execute(_LOCKED, {"id": job_id})

    def _conditions(self, matching: JobFilter) -> list[ColumnElement[bool]]:
        """Return the conditions other than on the state."""
        conditions: list[ColumnElement[bool]] = []
        if matching.model is not None:
            conditions.append(JobRow.model == matching.model)
        if matching.created_after is not None:
            conditions.append(JobRow.created_at > matching.created_after)
        if matching.created_before is not None:
            conditions.append(JobRow.created_at < matching.created_before)
        conditions += [self._has_metadata(key, text) for key, text in matching.metadata.items()]
        return conditions

    def _has_metadata(self, key: str, text: str) -> ColumnElement[bool]:
        """Compare one entry, its key a bound parameter: SQLite's JSON paths cannot escape it."""
        if self._tx.dialect.name == "sqlite":
            entry = func.json_each(JobRow.meta).table_valued("key", "value")
            return select(entry.c.key).where(entry.c.key == key, entry.c.value == text).exists()
        return JobRow.meta.op("->>")(key) == text


# What is deleted along with a job's row; its idempotency key stays.
PARTS = (JobEventRow, OutputRow, JobFileRow, WebhookDeliveryRow, ClientTokenRow)
_IS_THERE = JobRow.erased_at.is_(None)
_JOBS: Select[Any] = select(
    *columns_of(JobRow, Job), JobRow.output_milliseconds, JobRow.price_micro_usd
).where(_IS_THERE)
_JOBS_BY_ID = made_once(_JOBS.where(among(JobRow.id, "ids")))
# A lock is written to the log; the weakest one holds up no worker.
_LOCKED = made_once(
    select(JobRow.id).where(JobRow.id == bindparam("id")).with_for_update(read=True, key_share=True)
)


def _parts(states: Iterable[JobState], *, of_all: bool) -> Iterator[ColumnElement[bool]]:
    """Yield conditions on parts of the jobs in these states that SQLite can read newest first.

    Without statistics it prefers an index that has the state, however many jobs are in it. There is
    one that has the jobs of one user in order, within each state and priority. Of all users' jobs
    most are completed: those it is to come across by their ids, and the few others to sort.
    """
    for state in sorted(states):
        if not of_all:
            yield from (
                and_(JobRow.state == state, JobRow.priority == priority) for priority in Priority
            )
        elif state is JobState.COMPLETED:
            yield JobRow.state + "" == state
        else:
            yield JobRow.state == state


def _is_newest_of_a_part(
    conditions: Sequence[ColumnElement[bool]],
    parts: Iterable[ColumnElement[bool]],
    before: str | None,
    limit: int,
) -> ColumnElement[bool]:
    newest_of_parts = [
        newest(
            select(JobRow.id).where(*conditions, _IS_THERE, part),
            by=JobRow.id,
            before=before,
            limit=limit,
        )
        for part in parts
    ]
    return JobRow.id.in_(union_all(*(select(part.subquery().c.id) for part in newest_of_parts)))


def cancelled_here(at: datetime) -> Mapping[str, Any]:
    """Return the new values of a job that is cancelled before it was sent."""
    return {
        "state": JobState.CANCELLED,
        "finished_at": at,
        "due_at": None,
        "cost_state": "released",
        "cancel_outcome": CANCELLED_LOCALLY,
        "event_seq": JobRow.event_seq + 1,
    }


def _emptied(at: datetime) -> Mapping[str, Any]:
    """Return the new values of a watched job that is erased."""
    failure = literal({"code": "erased", "message": "erased"}, JobRow.error.type)
    return {
        "erased_at": at,
        "input": {},
        "meta": {},
        "webhook_url": None,
        "traceparent": None,
        "error": case((JobRow.error.is_not(None), failure), else_=null()),
    }


def job_from_row(row: Row[Any]) -> Job:
    return record_of(
        Job,
        row,
        output_seconds=_amount(Measure.MILLISECONDS, row.output_milliseconds),
        input_class=row.input_class or "",
        price_usd=_amount(Measure.MICRO_USD, row.price_micro_usd),
        state=JobState(row.state),
        place=None,
    )


def _amount(measure: Measure, units: int | None) -> Decimal | None:
    return None if units is None else from_units(measure, units)
