"""Where waiting jobs stand in their users' lines: a statement for all jobs of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Select, Text, and_, bindparam, func, or_, select
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
    last = max(waiting, key=lambda job: (job.priority, job.id))
    found = await tx.execute(
        _PLACES,
        {
            "users": sorted({job.user_id for job in waiting}),
            "last_priority": last.priority,
            "last_id": last.id,
            "ids": [job.id for job in waiting],
        },
    )
    return {
        job_id: Place(position=position, in_flight=in_flight or 0, is_paused=bool(is_paused))
        for job_id, position, in_flight, is_paused in found
    }


def _statement() -> Select[Any]:
    """Nobody behind the last of the jobs is looked at; an index holds all that is asked for."""
    users = bindparam("users", expanding=True, type_=Text)
    up_to_the_last = or_(
        JobRow.priority < bindparam("last_priority"),
        and_(JobRow.priority == bindparam("last_priority"), JobRow.id <= bindparam("last_id")),
    )
    line = (
        select(
            JobRow.id,
            JobRow.user_id,
            func.row_number()
            .over(partition_by=JobRow.user_id, order_by=(JobRow.priority, JobRow.id))
            .label("position"),
        )
        .where(JobRow.state == JobState.PENDING, JobRow.user_id.in_(users), up_to_the_last)
        .subquery()
    )
    flying = (
        select(JobRow.user_id, func.count().label("jobs"))
        .where(JobRow.state.in_(_MOVING), JobRow.user_id.in_(users))
        .group_by(JobRow.user_id)
        .subquery()
    )
    paused = select(SwitchRow.is_on).where(SwitchRow.name == DISPATCH_PAUSED).scalar_subquery()
    return (
        select(line.c.id, line.c.position, flying.c.jobs, paused)
        .outerjoin(flying, flying.c.user_id == line.c.user_id)
        .where(line.c.id.in_(bindparam("ids", expanding=True)))
    )


_PLACES = _statement()
