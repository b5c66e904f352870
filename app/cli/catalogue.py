"""RunComfy's catalogue, read for `gateway models`."""

import asyncio

from app import server
from app.bootstrap import open_parts
from app.catalogue.store import SyncReport
from app.cli.running import run, settings
from app.core.clock import SystemClock
from app.core.errors import AwayError, ConfigurationError
from app.core.metrics import Metrics
from app.core.tracing import Tracing
from app.settings import Settings
from app.upstream.errors import RefusedError, UpstreamError


def read() -> SyncReport:
    loaded = settings()
    server.prepare_database(loaded)
    return run(_sync(loaded))


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
            told = ConfigurationError if isinstance(exc, RefusedError) else AwayError
            raise told(
                f"RunComfy's catalogue cannot be read; the last one stays: {exc.message}"
            ) from exc
