"""Keys of a gateway that runs elsewhere, made as `gateway keys create` makes them."""

from app.auth.directory.keys import KeyDirectory
from app.core.clock import SystemClock
from app.db.engine import open_database


async def make_key(database_url: str, user: str = "alice") -> str:
    database = open_database(database_url)
    try:
        keys = KeyDirectory(database=database, clock=SystemClock(), known_models=frozenset)
        made = await keys.create(user, {"name": "test"}, actor="tests", make_user=True)
        return str(made.token)
    finally:
        await database.close()
