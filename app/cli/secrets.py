"""Reseals the secrets of webhooks, for `gateway webhooks`."""

from app import server
from app.bootstrap import webhook_sealer
from app.cli.running import run, settings
from app.db.engine import opened_database
from app.settings import Settings
from app.webhooks.resealing import Resealed, reseal


def reseal_all() -> Resealed:
    loaded = settings(needs_upstream=False)
    loaded.require_secret_key()
    server.prepare_database(loaded)
    return run(_reseal(loaded))


async def _reseal(loaded: Settings) -> Resealed:
    async with opened_database(loaded.database_url) as database:
        return await reseal(database, webhook_sealer(loaded))
