"""What a stream is told of a job while a worker writes what becomes of it."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database, open_database
from app.db.work import Done, Work
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
