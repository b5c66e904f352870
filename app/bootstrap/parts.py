"""The parts of a process, opened in the order of their dependencies."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.deps import Services
from app.auth.oidc.keys import IssuerKeys
from app.bootstrap.base import Base, Doorbells
from app.bootstrap.configs import Configs
from app.bootstrap.keys import secret_keys
from app.bootstrap.remotes import opened_remotes
from app.bootstrap.services import make_services
from app.bootstrap.stores import open_stores
from app.bootstrap.workers import Workers, make_workers
from app.core.clock import Clock
from app.core.metrics import Metrics
from app.core.tracing import Tracing
from app.db.engine import Database, opened_database
from app.jobs.queue.repository import QueueRepository
from app.settings import Settings
from app.storage import copies
from app.webhooks.queue_repository import DeliveryQueueRepository


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a process: `services` for the edge, the rest for the background."""

    services: Services
    issuer_keys: IssuerKeys | None
    workers: Workers
    database: Database
    clock: Clock

    async def free_leases(self) -> None:
        """End the leases of a dead process; only where no other process can hold any."""
        at = self.clock.now()

        async def work(tx: AsyncConnection) -> None:
            await QueueRepository(tx).free_leases(at=at)
            await copies.free_leases(tx, at=at)
            await DeliveryQueueRepository(tx).free_leases(at=at)

        await self.database.transact(work)


@asynccontextmanager
async def open_parts(
    settings: Settings,
    *,
    clock: Clock,
    metrics: Metrics,
    tracing: Tracing,
    public_url: str,
    closing: asyncio.Event,
) -> AsyncIterator[Parts]:
    """Put everything together; the database must be migrated already."""
    async with opened_database(settings.database_url) as database:
        base = Base(
            settings=settings,
            configs=Configs.of(settings),
            clock=clock,
            jitter=random.random,
            metrics=metrics,
            tracing=tracing,
            database=database,
            doorbells=Doorbells.made(clock),
            keys=secret_keys(settings),
            public_url=public_url,
            closing=closing,
        )
        async with opened_remotes(base) as remotes:
            stores = await open_stores(base, remotes)
            services = make_services(base, remotes, stores)
            yield Parts(
                services=services,
                issuer_keys=remotes.issuer_keys,
                workers=make_workers(base, remotes, stores, services),
                database=database,
                clock=clock,
            )
