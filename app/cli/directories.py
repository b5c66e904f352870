"""The services behind `gateway plans|users|keys`, opened for one command."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app import server
from app.auth.directory.keys import KeyDirectory
from app.auth.directory.plans import PlanDirectory
from app.auth.directory.users import UserDirectory
from app.bootstrap import open_catalogue
from app.cli.running import Answer, run, settings
from app.core.clock import SystemClock
from app.db.engine import open_database
from app.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Directories:
    plans: PlanDirectory
    users: UserDirectory
    keys: KeyDirectory


def using(work: Callable[[Directories], Awaitable[Answer]]) -> Answer:
    loaded = settings(needs_upstream=False)
    server.prepare_database(loaded)

    async def opened() -> Answer:
        async with _directories(loaded) as directories:
            return await work(directories)

    return run(opened())


@asynccontextmanager
async def _directories(loaded: Settings) -> AsyncIterator[Directories]:
    database, clock = open_database(loaded.database_url), SystemClock()
    try:
        catalogue, _ = await open_catalogue(loaded, database=database, clock=clock)
        models = catalogue.input_fields
        yield Directories(
            plans=PlanDirectory(database=database, clock=clock, known_models=models),
            users=UserDirectory(database=database, clock=clock),
            keys=KeyDirectory(database=database, clock=clock, known_models=models),
        )
    finally:
        await database.close()
