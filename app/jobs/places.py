"""Where waiting jobs stand in their users' lines: a statement for all jobs of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    func,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow, SwitchRow
from app.jobs.line import Place
from app.jobs.models import Job
from app.jobs.state import IN_FLIGHT, JobState
from app.jobs.switches import DISPATCH_PAUSED

_MOVING = IN_FLIGHT - {JobState.SUBMIT_UNKNOWN}  # which ends by itself only after hours


async def with_places(tx: AsyncConnection, jobs: Sequence[Job]) -> Sequence[Job]:
    """Give the jobs with the places of those that wait; costs nothing where none does."""
    waiting = [job for job in jobs if job.state is JobState.PENDING]
    if not waiting:
        return jobs
    places = await _places(tx, waiting)
    return [replace(job, place=places.get(job.id)) for job in jobs]


async def _places(tx: AsyncConnection, waiting: Sequence[Job]) -> Mapping[str, Place]:
    order = sorted((job.priority, job.id) for job in waiting)
    first, last = order[0], order[-1]
    found = await tx.execute(
        _PLACES,
        {
            "users": sorted({job.user_id for job in waiting}),
            "first_priority": first[0],
            "first_id": first[1],
            "last_priority": last[0],
            "last_id": last[1],
            "ids": [job.id for job in waiting],
        },
    )
    return {
        job_id: Place(
            position=(ahead or 0) + position, in_flight=in_flight or 0, is_paused=bool(is_paused)
        )
        for job_id, position, ahead, in_flight, is_paused in found
    }


def _statement() -> Select[*tuple[Any, ...]]:
    """Count who is ahead of all these jobs, and number only those from the first to the last.

    An index holds all that is asked for.
    """
    users = bindparam("users", expanding=True, type_=Text)
    place = tuple_(JobRow.priority, JobRow.id)
    first = tuple_(bindparam("first_priority", type_=Integer), bindparam("first_id", type_=Text))
    last = tuple_(bindparam("last_priority", type_=Integer), bindparam("last_id", type_=Text))
    of_users = and_(JobRow.state == JobState.PENDING, JobRow.user_id.in_(users))
    line = (
        select(
            JobRow.id,
            JobRow.user_id,
            func.row_number()
            .over(partition_by=JobRow.user_id, order_by=(JobRow.priority, JobRow.id))
            .label("position"),
        )
        .where(of_users, place >= first, place <= last)
        .subquery()
    )
    ahead = _counted(of_users, place < first)
    flying = _counted(JobRow.state.in_(_MOVING), JobRow.user_id.in_(users))
    paused = select(SwitchRow.is_on).where(SwitchRow.name == DISPATCH_PAUSED).scalar_subquery()
    return (
        select(line.c.id, line.c.position, ahead.c.jobs, flying.c.jobs, paused)
        .outerjoin(ahead, ahead.c.user_id == line.c.user_id)
        .outerjoin(flying, flying.c.user_id == line.c.user_id)
        .where(line.c.id.in_(bindparam("ids", expanding=True)))
    )


def _counted(*which: ColumnElement[bool]) -> Subquery:
    """Count jobs by user."""
    jobs = func.count().label("jobs")
    return select(JobRow.user_id, jobs).where(*which).group_by(JobRow.user_id).subquery()


_PLACES = _statement()
