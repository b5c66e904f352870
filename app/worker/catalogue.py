"""Keeps the catalogue fresh: one replica at a time reads RunComfy's, all follow the database."""

import asyncio
from datetime import timedelta

import structlog

from app.catalogue.store import CatalogueStore, SyncReport
from app.core.clock import Clock
from app.core.metrics import Metrics
from app.core.stopping import run_until
from app.db.failures import Failures
from app.upstream.catalogue import CatalogueReader
from app.upstream.errors import UpstreamError

logger = structlog.get_logger(__name__)

_LOOK = timedelta(seconds=2)
_RETRY = timedelta(minutes=1)


class CatalogueKeeper:
    """If `refresh` is None, only `gateway models sync` reads RunComfy's catalogue."""

    def __init__(
        self,
        *,
        store: CatalogueStore,
        reader: CatalogueReader,
        refresh: timedelta | None,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._failures = Failures("catalogue")
        self._reader = reader
        self._refresh = refresh
        self._metrics = metrics
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Repeat until `stop`; a read under way is abandoned, and nothing of it is stored."""
        await run_until(stop, [self._repeat()])

    async def run_once(self) -> None:
        """Read upstream if that is due and nobody else does, then serve what is stored."""
        await self._refresh_if_due()
        await self._store.load()

    async def sync(self) -> SyncReport:
        """Read upstream now; on UpstreamError the last good catalogue stays."""
        return await self._store.apply(await self._reader.read())

    async def _repeat(self) -> None:
        while True:
            with self._failures.logged():
                await self.run_once()
            await self._clock.sleep(_LOOK)

    async def _refresh_if_due(self) -> None:
        if self._refresh is None:
            return
        if not await self._store.take_turn(retry=min(_RETRY, self._refresh)):
            return
        try:
            entries = await self._reader.read()
        except UpstreamError as exc:
            self._metrics.catalogue_syncs.labels("failed").inc()
            logger.warning("catalogue.sync_failed", reason=str(exc))
        else:
            report = await self._store.apply(entries)
            self._metrics.catalogue_syncs.labels("ok").inc()
            self._metrics.catalogue_breaks.inc(len(report.breaks))
