"""How the databases find the jobs to poll: along an index, however many are due."""

from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import ManualClock
from app.db.engine import open_database
from app.jobs.queue_repository import QueueRepository
from app.jobs.state import FOLLOWED, WATCHED


async def test_a_claim_reads_no_more_jobs_than_it_may_take(
    database_url: str, clock: ManualClock
) -> None:
    """The first of each state along an index, and those then by their ids."""
    database = open_database(database_url)
    asked: list[tuple[str, Any]] = []
    for engine in database.engines:
        event.listen(engine, "before_cursor_execute", lambda *of: asked.append((of[2], of[3])))

    async def work(connection: AsyncConnection) -> str:
        is_sqlite = connection.dialect.name == "sqlite"
        if not is_sqlite:  # its plans follow the number of rows, of which there are none
            for way in ("seqscan", "bitmapscan", "mergejoin"):
                await connection.execute(text(f"SET LOCAL enable_{way} = off"))
        at = clock.now()
        await QueueRepository(connection).due_polls(
            poller="worker_1", accounts=["default"], at=at, expires_at=at, limit=5
        )
        verb = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
        statement, parameters = asked[-1]
        return str((await connection.exec_driver_sql(verb + statement, parameters)).all())

    plan = await database.transact(work)
    await database.close()
    assert plan.count("ix_jobs_state_due_at") == len(FOLLOWED | WATCHED), plan
    assert "pk_jobs" in plan or "sqlite_autoindex_jobs_1" in plan, plan
