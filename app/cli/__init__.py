"""The `gateway` command: thin, over the same services as the web.

Each command imports its code when it runs: loading the whole gateway takes a second or two, which
`--help` and a misspelt option need not wait for.
"""

import gc
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Never

import typer

from app.cli.keys import keys
from app.cli.models import models
from app.cli.plans import plans
from app.cli.users import users
from app.cli.webhooks import webhooks
from app.core.errors import (
    AwayError,
    ConfigurationError,
    DatabaseUnavailableError,
    ProblemError,
)

_EXIT_AWAY = os.EX_TEMPFAIL
_EXIT_WRONG = 2

Port = Annotated[
    int, typer.Option(min=0, max=65535, help="The port to listen on; 0 picks a free one.")
]

app = typer.Typer(
    name="gateway",
    help="A self-hosted gateway in front of RunComfy's Model API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database = typer.Typer(help="Manage the database schema.", no_args_is_help=True)
app.add_typer(database, name="db")
app.add_typer(plans, name="plans")
app.add_typer(users, name="users")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
app.add_typer(webhooks, name="webhooks")


def main() -> None:
    """Run a command; an error becomes one sentence on stderr and an exit code.

    2 is for what the operator can fix, 75 for what is away and may come back by itself: the systemd
    unit restarts the gateway after 75 but not after 2.
    """
    gc.disable()  # until `run`: imports are no garbage, and looking through them takes a sixth
    _replace_closed_streams()
    try:
        app()
    except AwayError as exc:
        _exit(str(exc), code=_EXIT_AWAY)
    except ConfigurationError as exc:
        _exit(str(exc), code=_EXIT_WRONG)
    except DatabaseUnavailableError as exc:
        _exit(f"{exc.detail} ({exc.reason})", code=_EXIT_AWAY)
    except ProblemError as exc:
        sentences = [error.detail for error in exc.errors] or [exc.detail]
        _exit(" ".join(sentences), code=_EXIT_WRONG)


def _replace_closed_streams() -> None:
    """Keep descriptors 0 to 2 from whatever is opened next: libuv aborts if it closes one."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w"))


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
    port: Port = 8000,
) -> None:
    """Serve the API and run the background work."""
    from app import server
    from app.cli.running import run, settings

    loaded = settings()

    def announce(url: str) -> None:
        if sys.stderr.isatty():  # a log collector needs no greeting
            typer.echo(_greeting(url, sandboxed=loaded.is_sandboxed), err=True)

    run(server.serve(loaded, host=host, port=port, announce=announce))


@app.command()
def worker(
    host: Annotated[str, typer.Option(help="The address for health and metrics.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The port for health and metrics; without it they are not served.",
        ),
    ] = None,
) -> None:
    """Run only the background work."""
    from app import server
    from app.cli.running import run, settings

    run(server.work(settings(), host=host, port=port))


@database.command("upgrade")
def upgrade() -> None:
    """Migrate the schema; safe to repeat, and to run on several machines at once."""
    from app.cli.running import settings
    from app.db import migrate

    migrate.upgrade(settings(needs_upstream=False).database_url)
    typer.echo("The database's schema is up to date.", err=True)


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Port = 8100,
    data: Annotated[Path, typer.Option(help="Where to keep its requests and films.")] = Path(
        "sandbox"
    ),
    speed: Annotated[
        float, typer.Option(min=0.001, max=1_000_000, help="How many times faster than real time.")
    ] = 1.0,
    token: Annotated[
        str | None, typer.Option(help="Accept only this token; default: any token.")
    ] = None,
) -> None:
    """Run a local RunComfy: the same calls, films made from your pictures, no bill."""
    from app.cli.running import run
    from app.core.logging import configure_logging
    from app.core.stopping import stop_signal
    from app.sandbox import SandboxConfig, running_sandbox

    configure_logging(format="console", level="info")

    async def serve_sandbox() -> None:
        config = SandboxConfig(directory=data, token=token, speed=speed)
        async with running_sandbox(config, host=host, port=port) as url:
            typer.echo(f"RunComfy sandbox at {url}, keeping its requests in {data}/", err=True)
            await stop_signal().wait()

    run(serve_sandbox())


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where to save the video.")] = Path("demo.mp4"),
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep a gateway running to look around in, until Ctrl-C.")
    ] = False,
) -> None:
    """Turn a picture into a video, with a temporary gateway and sandbox."""
    from app import demo
    from app.cli.running import run
    from app.core.logging import configure_logging

    # The faults of a made-up day are intended.
    configure_logging(format="console", level="error" if keep else "warning")
    run(demo.keep() if keep else demo.run(output))


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.api.openapi import describe
    from app.main import create_app
    from app.settings import SANDBOX, explicit_settings

    app = create_app(explicit_settings(upstream_url=SANDBOX), public_url="https://gateway.example")
    typer.echo(json.dumps(describe(app), indent=2, ensure_ascii=False))


def _greeting(url: str, *, sandboxed: bool) -> str:
    lines = [f"Serving at {url}; Ctrl-C stops it."]
    if sandboxed:
        lines.append(
            "Its RunComfy is a sandbox: nothing is sent to the real one, nothing is charged."
        )
    lines.append("Make a key from another terminal in this folder: gateway keys create --user you")
    return "\n".join(lines)


def _exit(sentence: str, *, code: int) -> Never:
    typer.echo(f"gateway: {sentence}", err=True)
    sys.exit(code)
