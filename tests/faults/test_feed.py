"""What a stream is told of a job while a worker writes what becomes of it."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import psycopg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database, open_database, opened_database
from app.db.work import Done, Work
from app.events.cursor import Cursor
from app.events.tail import Whose, read_on
from app.jobs.feed import JobFeed
from app.jobs.state import JobState
from tests.support.gateway import Gateway


class Interrupted(Database):
    """The real database, where something else is done after the first statement of a look."""

    def __init__(self, url: str, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(open_database(url)._connections)  # noqa: SLF001 - it takes their place
        self._meanwhile: list[Callable[[], Awaitable[object]]] = [meanwhile]

    async def look_up(self, work: Work[Done]) -> Done:
        async def interrupted(connection: AsyncConnection) -> Done:
            return await work(
                cast("AsyncConnection", _InterruptedConnection(connection, self._meanwhile))
            )

        return await super().look_up(interrupted)


class _InterruptedConnection:
    def __init__(
        self, connection: AsyncConnection, meanwhile: list[Callable[[], Awaitable[object]]]
    ) -> None:
        self._connection = connection
        self._meanwhile = meanwhile
        self.dialect = connection.dialect

    async def execute(self, *statement: Any) -> Any:
        answer = await self._connection.execute(*statement)
        while self._meanwhile:
            await self._meanwhile.pop()()
        return answer


async def test_no_event_is_told_that_is_newer_than_the_job_beside_it(
    gateway: Gateway, database_url: str
) -> None:
    """On Postgres each statement sees what is committed by then: an end, and a job without it."""
    job = await gateway.submit("sandbox:slow=5")
    job = await gateway.follow(job, lambda read: read["status"] == "in_progress")
    database = Interrupted(database_url, lambda: gateway.follow(job))
    feed = JobFeed(database=database)
    try:
        news = await feed.of_job(job["id"], after=1)
        told = [(moment.seq, moment.job.state) for moment in news.moments]
        assert news.job.state is JobState.IN_PROGRESS
        assert told[-1] == (news.job.event_seq, JobState.IN_PROGRESS)

        (end,) = (await feed.of_job(job["id"], after=news.job.event_seq)).moments
        assert (end.seq, end.job.state) == (news.job.event_seq + 1, JobState.COMPLETED)
        assert end.job.output is not None
    finally:
        await database.close()


async def test_whoever_is_far_behind_does_not_read_all_of_it_for_each_page(
    postgres_database: str,
) -> None:
    """Postgres would sort it anew each time, and all who follow their jobs would wait for that."""
    with psycopg.connect(postgres_database, autocommit=True) as server:
        server.execute("ALTER TABLE job_events DISABLE TRIGGER ALL")  # the jobs are nobody's
        server.execute(
            "INSERT INTO job_events (xid, job_id, seq, user_id, type, at)"
            " SELECT 3 + n / 100, 'job_' || n, 1, 'user_' || n % 2, 'pending', now()"
            " FROM generate_series(1, 20000) n"
        )
        server.execute("ANALYZE job_events")
    asked: list[tuple[str, Any]] = []
    read: list[int] = []

    async def work(connection: AsyncConnection) -> str:
        after = Cursor.parse("0")
        for _ in range(3):
            assert after is not None
            page = await read_on(connection, after, whose=Whose("user_1"), limit=100)
            read.extend(entry.number for entry in page.entries)
            after = page.end
        statement, parameters = asked[-1]
        plan = await connection.exec_driver_sql(f"EXPLAIN ANALYZE {statement}", parameters)
        return "\n".join(str(line) for (line,) in plan)

    async with opened_database(postgres_database) as database:
        for engine in database.watch():
            event.listen(engine, "before_cursor_execute", lambda *of: asked.append((of[2], of[3])))
        plan = await database.read(work)
    assert read == list(range(1, 601, 2))
    assert "pk_job_events" in plan, plan
