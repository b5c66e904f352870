"""`gateway webhooks`: work on their secrets by hand."""

import typer

from app.core.errors import ConfigurationError

_SHOWN = 5

webhooks = typer.Typer(help="The secrets that sign webhooks.", no_args_is_help=True)


@webhooks.command("reseal")
def reseal_secrets() -> None:
    """Encrypt them anew under the first GATEWAY_SECRET_KEY, so that older ones can be removed."""
    from app.cli.secrets import reseal_all

    done = reseal_all()
    typer.echo(f"{done.renewed} sealed anew, {done.current} were up to date.", err=True)
    if done.broken:
        names = ", ".join(done.broken[:_SHOWN]) + (" ..." if len(done.broken) > _SHOWN else "")
        raise ConfigurationError(
            f"{len(done.broken)} cannot be opened with any key in GATEWAY_SECRET_KEY ({names}):"
            " append the key they were made under and repeat this, or rotate them."
        )
