"""How the databases read a page of jobs: along an index, however many there are."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import open_database
from app.jobs.models import JobFilter
from app.jobs.repository import JobRepository
from app.jobs.state import states_of


async def plans_of(database_url: str, *asked_for: tuple[str | None, JobFilter]) -> Sequence[str]:
    """Return how a page behind some job is read, of one user or of all."""
    database = open_database(database_url)
    asked: list[tuple[str, Any]] = []
    for engine in database.watch():
        event.listen(engine, "before_cursor_execute", lambda *of: asked.append((of[2], of[3])))

    async def work(connection: AsyncConnection) -> list[str]:
        is_sqlite = connection.dialect.name == "sqlite"
        if not is_sqlite:  # its plans follow the number of rows, of which there are none
            for way in ("seqscan", "bitmapscan", "sort"):
                await connection.execute(text(f"SET LOCAL enable_{way} = off"))
        plans = []
        for user_id, matching in asked_for:
            asked.clear()
            jobs = JobRepository(connection)
            await jobs.page(user_id=user_id, matching=matching, before="job_x", limit=20)
            statement, parameters = next(each for each in asked if "FROM jobs" in each[0])
            verb = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
            plan = await connection.exec_driver_sql(verb + statement, parameters)
            plans.append(str(plan.all()))
        return plans

    plans = await database.transact(work)
    await database.close()
    return plans


async def test_a_page_is_read_along_an_index(database_url: str) -> None:
    """What is before it is neither read nor sorted."""
    of_one, of_all = await plans_of(database_url, ("alice", JobFilter()), (None, JobFilter()))
    assert "ix_jobs_user_id_id" in of_one, of_one
    assert "pk_jobs" in of_all or "sqlite_autoindex_jobs_1" in of_all, of_all
    for plan in (of_one, of_all):
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan


@pytest.mark.sqlite_alone
async def test_what_few_jobs_are_is_found_without_going_through_all_of_the_user(
    database_url: str,
) -> None:
    """Postgres knows by itself how many have a status."""
    waiting = JobFilter(states=states_of("pending"))
    (plan,) = await plans_of(database_url, ("alice", waiting))
    assert "ix_jobs_state_user_id_priority_id_key_id" in plan, plan
    assert "ix_jobs_user_id_id" not in plan, plan


@pytest.mark.sqlite_alone
async def test_what_most_jobs_are_is_come_across_and_what_few_are_is_found(
    database_url: str,
) -> None:
    """All that ever completed would first be put into order, for as long as it takes."""
    completed, failed = (JobFilter(states=states_of(each)) for each in ("completed", "failed"))
    many, few = await plans_of(database_url, (None, completed), (None, failed))
    assert "sqlite_autoindex_jobs_1 (id<?)" in many, many
    assert "TEMP B-TREE" not in many, many
    assert "ix_jobs_state" in few, few
