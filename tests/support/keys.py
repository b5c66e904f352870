"""Keys of a gateway that runs elsewhere, made as `gateway keys create` makes them."""

from collections.abc import Sequence

from app.auth.directory.keys import KeyDirectory
from app.auth.directory.models import KeyChanges
from app.auth.scopes import DEFAULT_SCOPES
from app.core.clock import SystemClock
from app.db.engine import opened_database


async def make_key(
    database_url: str, user: str = "alice", *, scopes: Sequence[str] = DEFAULT_SCOPES
) -> str:
    async with opened_database(database_url) as database:
        keys = KeyDirectory(database=database, clock=SystemClock(), known_models=frozenset)
        changes: KeyChanges = {"name": "test", "scopes": scopes}
        made = await keys.create(user, changes, actor="tests", make_user=True)
        return str(made.credential)
