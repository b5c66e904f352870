"""What must be true of every database at any instant, read from its rows."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import opened_database
from app.db.models import JobEventRow, JobRow
from app.jobs.state import MOVES, TERMINAL, JobState

_STATES = frozenset(JobState)


async def assert_invariants(database_url: str) -> None:
    """Check every job's event log against its row and against the table of moves."""
    for job, events in (await read_jobs(database_url)).values():
        if job.erased_at is not None:
            assert not events, job.id
            continue
        assert [event.seq for event in events] == list(range(1, job.event_seq + 1)), job.id
        path = [JobState(event.type) for event in events if event.type in _STATES]
        assert path[0] is JobState.PENDING, (job.id, path)
        for before, after in pairwise(path):
            assert after in MOVES[before], (job.id, path)
        assert path[-1] == job.state, (job.id, path)
        ends = [state for state in path if state in TERMINAL]
        assert len(ends) == (job.state in TERMINAL) + (job.late is not None), (job.id, path)


async def event_types(database_url: str, job: Mapping[str, Any]) -> list[str]:
    _, events = (await read_jobs(database_url))[job["id"]]
    return [event.type for event in events]


async def read_jobs(database_url: str) -> Mapping[str, tuple[Any, Sequence[Any]]]:
    """Return every job's row with its events in order."""

    async def work(connection: AsyncConnection) -> Mapping[str, tuple[Any, Sequence[Any]]]:
        rows = (await connection.execute(select(JobRow.__table__))).all()
        logged = select(JobEventRow.__table__).order_by(JobEventRow.job_id, JobEventRow.seq)
        events = (await connection.execute(logged)).all()
        return {row.id: (row, [each for each in events if each.job_id == row.id]) for row in rows}

    async with opened_database(database_url) as database:
        return await database.read(work)
