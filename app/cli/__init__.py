"""The `gateway` command: thin, over the same services as the web."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from app import demo as demonstration
from app import server
from app.cli import directory
from app.cli.models import models
from app.cli.running import run as _run
from app.cli.running import settings as _settings
from app.cli.webhooks import webhooks
from app.core.errors import ConfigurationError, ProblemError
from app.core.logging import configure_logging
from app.main import create_app
from app.sandbox import SandboxConfig, running_sandbox
from app.settings import SANDBOX, Settings, explicit_settings

app = typer.Typer(
    name="gateway",
    help="A self-hosted gateway in front of RunComfy's Model API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database = typer.Typer(help="The database's schema.", no_args_is_help=True)
app.add_typer(database, name="db")
app.add_typer(directory.plans, name="plans")
app.add_typer(directory.users, name="users")
app.add_typer(directory.keys, name="keys")
app.add_typer(models, name="models")
app.add_typer(webhooks, name="webhooks")


def main() -> None:
    """Run a command; what the operator can mend is one sentence on stderr and exit code 2."""
    try:
        app()
    except ConfigurationError as exc:
        sys.exit(_complain(str(exc)))
    except ProblemError as exc:
        sys.exit(_complain(" ".join([error.detail for error in exc.errors] or [exc.detail])))


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - a flag's callback
    if wanted:
        typer.echo(metadata.version("runcomfy-gateway"))
        raise typer.Exit


@app.callback()
def _gateway(
    version: Annotated[  # noqa: FBT002 - a flag
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None: ...


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for a free one.")] = 8000,
) -> None:
    """Serve the API and do the background work."""
    settings = _settings()

    def announce(url: str) -> None:
        if sys.stderr.isatty():  # a log collector has the log
            typer.echo(_greeting(url, settings), err=True)

    _run(server.serve(settings, host=host, port=port, announce=announce))


@app.command()
def worker(
    host: Annotated[str, typer.Option(help="The address of health and metrics.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Their port; without one there is neither.")
    ] = None,
) -> None:
    """Do the background work alone."""
    _run(server.work(_settings(), host=host, port=port))


@database.command("upgrade")
def upgrade() -> None:
    """Bring the schema up to date; safe to repeat, and to run on several machines at once."""
    from app.db import migrate  # noqa: PLC0415 - Alembic is heavy, and for this command alone

    settings = _settings(needs_upstream=False)
    migrate.upgrade(settings.database_url)
    typer.echo("The database's schema is up to date.", err=True)


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for a free one.")] = 8100,
    data: Annotated[Path, typer.Option(help="The folder of its requests and films.")] = Path(
        "sandbox"
    ),
    speed: Annotated[
        float, typer.Option(min=0.001, max=1_000_000, help="How many times faster than life.")
    ] = 1.0,
    token: Annotated[str | None, typer.Option(help="Take this token only; default: any.")] = None,
) -> None:
    """Run a RunComfy of your own: the same calls, films of your own pictures, no bill."""
    configure_logging(format="console", level="info")

    async def run() -> None:
        config = SandboxConfig(directory=data, token=token, speed=speed)
        async with running_sandbox(config, host=host, port=port) as url:
            typer.echo(f"RunComfy sandbox at {url}, keeping its requests in {data}/", err=True)
            await server.until_stopped()

    _run(run())


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where to save the video.")] = Path("demo.mp4"),
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave one running to look around in, until Ctrl-C.")
    ] = False,
) -> None:
    """Turn a picture into a video with a gateway and a sandbox that are gone afterwards."""
    # The faults of a made-up day are meant to be.
    configure_logging(format="console", level="error" if keep else "warning")
    _run(demonstration.keep() if keep else demonstration.run(output))


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    settings = explicit_settings(upstream_url=SANDBOX)
    document = create_app(settings, public_url="https://gateway.example").openapi()
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _greeting(url: str, settings: Settings) -> str:
    lines = [f"Serving at {url}; Ctrl-C stops it."]
    if settings.is_sandboxed:
        lines.append("Its RunComfy is a sandbox: nothing is sent to the real one, nothing is paid.")
    lines.append("Make a key from another terminal in this folder: gateway keys create --user you")
    return "\n".join(lines)


def _complain(sentence: str) -> int:
    typer.echo(f"gateway: {sentence}", err=True)
    return 2
