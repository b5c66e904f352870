"""`gateway models`: the catalogue, read by hand."""

import asyncio
from typing import TYPE_CHECKING

import typer

from app.core.errors import AwayError, ConfigurationError

if TYPE_CHECKING:
    from app.catalogue.store import SyncReport
    from app.settings import Settings

models = typer.Typer(help="RunComfy's models.", no_args_is_help=True)


@models.command("sync")
def sync() -> None:
    """Read RunComfy's catalogue now; running gateways follow within seconds."""
    from app.cli.running import prepared_settings, run

    report = run(_sync(prepared_settings()))
    typer.echo(
        f"{report.models} models: {len(report.added)} new, {len(report.changed)} changed,"
        f" {len(report.withdrawn)} withdrawn, {report.skipped} skipped.",
        err=True,
    )
    for model_id, breaks in report.breaks.items():
        typer.echo(
            f"{model_id} is in use, and accepts less than before: {'; '.join(breaks)}.", err=True
        )


async def _sync(settings: "Settings") -> "SyncReport":
    from app.bootstrap.parts import open_parts
    from app.core.clock import SystemClock
    from app.core.metrics import Metrics
    from app.core.tracing import Tracing
    from app.upstream.errors import RefusedError, UpstreamError

    async with open_parts(
        settings,
        clock=SystemClock(),
        metrics=Metrics(),
        tracing=Tracing(),
        public_url="http://127.0.0.1",  # never used: no link is made
        closing=asyncio.Event(),
    ) as parts:
        try:
            return await parts.workers.catalogue.sync()
        except UpstreamError as exc:
            kind = ConfigurationError if isinstance(exc, RefusedError) else AwayError
            raise kind(
                f"RunComfy's catalogue cannot be read; the last one stays: {exc.message}"
            ) from exc
