"""`gateway webhooks`: what is done to their secrets by hand."""

import typer

from app import server
from app.bootstrap import webhook_sealer
from app.cli.running import run, settings
from app.core.errors import ConfigurationError
from app.db.engine import open_database
from app.settings import Settings
from app.webhooks.resealing import Resealed, reseal

_SHOWN = 5

webhooks = typer.Typer(help="The secrets that sign webhooks.", no_args_is_help=True)


@webhooks.command("reseal")
def reseal_secrets() -> None:
    """Encrypt them anew under the first GATEWAY_SECRET_KEY, after which older ones may go."""
    loaded = settings(needs_upstream=False)
    loaded.require_secret_key()
    server.prepare_database(loaded)
    done = run(_reseal(loaded))
    typer.echo(f"{done.renewed} sealed anew, {done.current} were so before.", err=True)
    if done.broken:
        names = ", ".join(done.broken[:_SHOWN]) + (" ..." if len(done.broken) > _SHOWN else "")
        raise ConfigurationError(
            f"{len(done.broken)} open with none of the keys in GATEWAY_SECRET_KEY ({names}): add"
            " the key they were made under to its end and repeat this, or rotate them."
        )


async def _reseal(loaded: Settings) -> Resealed:
    database = open_database(loaded.database_url)
    try:
        return await reseal(database, webhook_sealer(loaded))
    finally:
        await database.close()
