"""Where waiting jobs stand in their users' lines: one statement for all jobs of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Integer,
    ScalarSelect,
    Select,
    Text,
    and_,
    bindparam,
    column,
    func,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.rows import Rows
from app.db.statements import among, one_of
from app.jobs.lanes.pause import PAUSED
from app.jobs.models import Job, Place
from app.jobs.state import IN_FLIGHT, JobState

_MOVING = IN_FLIGHT - {JobState.SUBMIT_UNKNOWN}  # which ends by itself only after hours


async def with_places(tx: AsyncConnection, jobs: Sequence[Job]) -> Sequence[Job]:
    """Return the jobs, the waiting ones with their places; costs nothing if none waits."""
    waiting = [job for job in jobs if job.state is JobState.PENDING]
    if not waiting:
        return jobs
    places = await _places(tx, waiting)
    return [replace(job, place=places.get(job.id)) for job in jobs]


async def _places(tx: AsyncConnection, waiting: Sequence[Job]) -> Mapping[str, Place]:
    order = sorted((job.priority, job.id) for job in waiting)
    first, last = order[0], order[-1]
    users = sorted({job.user_id for job in waiting})
    found = await _PLACES.execute(
        tx,
        [{"id": user_id} for user_id in users],
        users=users,  # again: with a table of unknown length Postgres would join all waiting jobs
        first_priority=first[0],
        first_id=first[1],
        last_priority=last[0],
        last_id=last[1],
        ids=[job.id for job in waiting],
    )
    return {
        job_id: Place(position=ahead + position, in_flight=in_flight, is_paused=bool(is_paused))
        for job_id, position, ahead, in_flight, is_paused in found
    }


_USERS = Rows(column("id", Text))


def _statement(users: CTE) -> Select[*tuple[Any, ...]]:
    """Count who is ahead of all these jobs, and number only those from the first to the last.

    One index covers it all. Ahead are the more urgent jobs, and the older ones of the same
    priority: counted separately, each is a range of that index, and no rows are compared.
    """
    first_priority = bindparam("first_priority", type_=Integer)
    first_id = bindparam("first_id", type_=Text)
    last = tuple_(bindparam("last_priority", type_=Integer), bindparam("last_id", type_=Text))
    place = tuple_(JobRow.priority, JobRow.id)
    line = (
        select(
            JobRow.id,
            JobRow.user_id,
            func.row_number()
            .over(partition_by=JobRow.user_id, order_by=(JobRow.priority, JobRow.id))
            .label("position"),
        )
        .where(JobRow.state == JobState.PENDING, among(JobRow.user_id, "users"))
        .where(place >= tuple_(first_priority, first_id), place <= last)
        .subquery()
    )
    of_user = JobRow.user_id == users.c.id
    waits = and_(of_user, JobRow.state == JobState.PENDING)
    more_urgent = _count(waits, JobRow.priority < first_priority)
    older = _count(waits, JobRow.priority == first_priority, JobRow.id < first_id)
    counted = (
        select(
            users.c.id,
            (more_urgent + older).label("ahead"),
            _count(of_user, one_of(JobRow.state, _MOVING)).label("in_flight"),
        )
        .cte("counted")
        .prefix_with("MATERIALIZED")  # otherwise it is counted again for each job
    )
    paused = PAUSED.scalar_subquery()
    return (
        select(line.c.id, line.c.position, counted.c.ahead, counted.c.in_flight, paused)
        .join(counted, counted.c.id == line.c.user_id)
        .where(among(line.c.id, "ids"))
    )


def _count(*which: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(JobRow).where(*which).scalar_subquery()


_PLACES = _USERS.in_statement(_statement)
