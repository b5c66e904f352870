"""`gateway models`: the catalogue, read by hand."""

import asyncio

import typer

from app import server
from app.bootstrap import open_parts
from app.catalogue.store import SyncReport
from app.cli.running import run, settings
from app.core.clock import SystemClock
from app.core.errors import ConfigurationError
from app.core.metrics import Metrics
from app.core.tracing import Tracing
from app.settings import Settings
from app.upstream.errors import UpstreamError

models = typer.Typer(help="The models of RunComfy.", no_args_is_help=True)


@models.command("sync")
def sync() -> None:
    """Read RunComfy's catalogue now; a gateway that runs follows within seconds."""
    loaded = settings()
    server.prepare_database(loaded)
    report = run(_sync(loaded))
    typer.echo(
        f"{report.models} models: {len(report.added)} new, {len(report.changed)} changed,"
        f" {len(report.withdrawn)} withdrawn, {report.skipped} skipped.",
        err=True,
    )
    for model_id, breaks in report.breaks.items():
        typer.echo(
            f"{model_id} is in use, and takes less than before: {'; '.join(breaks)}.", err=True
        )


async def _sync(loaded: Settings) -> SyncReport:
    no_links, closing = "http://127.0.0.1", asyncio.Event()
    async with open_parts(
        loaded,
        clock=SystemClock(),
        metrics=Metrics(),
        tracing=Tracing(),
        public_url=no_links,
        closing=closing,
    ) as parts:
        try:
            return await parts.workers.catalogue.sync()
        except UpstreamError as exc:
            raise ConfigurationError(
                f"RunComfy's catalogue cannot be read, and the last one stays: {exc.message}"
            ) from exc
