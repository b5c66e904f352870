"""How the databases read a page of jobs: along an index, however many there are."""

from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import open_database
from app.jobs.models import JobFilter
from app.jobs.repository import JobRepository


async def test_a_page_is_read_along_an_index(database_url: str) -> None:
    """Of one user or of all, behind any job: what is before it is neither read nor sorted."""
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
        for user_id in ("alice", None):
            asked.clear()
            jobs = JobRepository(connection)
            await jobs.page(user_id=user_id, matching=JobFilter(), before="job_x", limit=20)
            statement, parameters = next(each for each in asked if "FROM jobs" in each[0])
            verb = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
            plan = await connection.exec_driver_sql(verb + statement, parameters)
            plans.append(str(plan.all()))
        return plans

    of_one, of_all = await database.transact(work)
    await database.close()
    assert "ix_jobs_user_id_id" in of_one, of_one
    assert "pk_jobs" in of_all or "sqlite_autoindex_jobs_1" in of_all, of_all
    for plan in (of_one, of_all):
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan
