"""`gateway webhooks`: maintenance of their secrets."""

from typing import TYPE_CHECKING

import typer

from app.core.errors import ConfigurationError

if TYPE_CHECKING:
    from app.settings import Settings
    from app.webhooks.resealing import Resealed

_SHOWN = 5

webhooks = typer.Typer(help="The secrets that sign webhooks.", no_args_is_help=True)


@webhooks.command("reseal")
def reseal_secrets() -> None:
    """Re-encrypt them under the first GATEWAY_SECRET_KEY, so that older keys can be removed."""
    from app.cli.running import prepared_settings, run

    settings = prepared_settings(needs_upstream=False)
    settings.require_secret_key()
    done = run(_reseal(settings))
    typer.echo(f"{done.renewed} sealed anew, {done.current} were up to date.", err=True)
    if done.broken:
        names = ", ".join(done.broken[:_SHOWN]) + (" ..." if len(done.broken) > _SHOWN else "")
        raise ConfigurationError(
            f"{len(done.broken)} cannot be opened with any key in GATEWAY_SECRET_KEY ({names}):"
            " append the key they were made under and repeat this, or rotate them."
        )


async def _reseal(settings: "Settings") -> "Resealed":
    from app.bootstrap.keys import webhook_sealer
    from app.db.engine import opened_database
    from app.webhooks.resealing import reseal

    async with opened_database(settings.database_url) as database:
        return await reseal(database, webhook_sealer(settings))
