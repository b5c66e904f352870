"""Where waiting jobs stand in their users' lines: a statement for all jobs of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, and_, func, or_, select
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
    users = sorted({job.user_id for job in waiting})
    # Nobody behind the last of them is looked at; an index holds all that is asked for.
    last = max(waiting, key=lambda job: (job.priority, job.id))
    line = (
        select(
            JobRow.id,
            JobRow.user_id,
            func.row_number()
            .over(partition_by=JobRow.user_id, order_by=(JobRow.priority, JobRow.id))
            .label("position"),
        )
        .where(JobRow.state == JobState.PENDING, JobRow.user_id.in_(users), _up_to(last))
        .subquery()
    )
    flying = (
        select(JobRow.user_id, func.count().label("jobs"))
        .where(JobRow.state.in_(_MOVING), JobRow.user_id.in_(users))
        .group_by(JobRow.user_id)
        .subquery()
    )
    paused = select(SwitchRow.is_on).where(SwitchRow.name == DISPATCH_PAUSED).scalar_subquery()
    found = await tx.execute(
        select(line.c.id, line.c.position, flying.c.jobs, paused)
        .outerjoin(flying, flying.c.user_id == line.c.user_id)
        .where(line.c.id.in_([job.id for job in waiting]))
    )
    return {
        job_id: Place(position=position, in_flight=in_flight or 0, is_paused=bool(is_paused))
        for job_id, position, in_flight, is_paused in found
    }


def _up_to(job: Job) -> ColumnElement[bool]:
    return or_(
        JobRow.priority < job.priority,
        and_(JobRow.priority == job.priority, JobRow.id <= job.id),
    )
