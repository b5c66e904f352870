"""The services behind `gateway plans|users|keys`, opened for one command."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app import server
from app.auth.directory.keys import KeyDirectory
from app.auth.directory.plans import PlanDirectory
from app.auth.directory.users import UserDirectory
from app.bootstrap import open_catalogue
from app.cli.running import Answer, run, settings
from app.core.clock import SystemClock
from app.db.engine import opened_database
from app.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Directories:
    plans: PlanDirectory
    users: UserDirectory
    keys: KeyDirectory


def using(work: Callable[[Directories], Awaitable[Answer]]) -> Answer:
    loaded = settings(needs_upstream=False)
    server.prepare_database(loaded)
    return run(_use(loaded, work))


async def _use(loaded: Settings, work: Callable[[Directories], Awaitable[Answer]]) -> Answer:
    clock = SystemClock()
    async with opened_database(loaded.database_url) as database:
        catalogue, _ = await open_catalogue(loaded, database=database, clock=clock)
        models = catalogue.input_fields
        directories = Directories(
            plans=PlanDirectory(database=database, clock=clock, known_models=models),
            users=UserDirectory(database=database, clock=clock),
            keys=KeyDirectory(database=database, clock=clock, known_models=models),
        )
        return await work(directories)
