"""What every part needs: the settings of this process, its clock, its database, its doorbells."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields

from pydantic import SecretBytes

from app.bootstrap.configs import Configs
from app.bootstrap.keys import secret_keys
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.metrics import Metrics
from app.core.signatures import Signer
from app.core.tracing import Tracing
from app.db.engine import Database, opened_database
from app.jobs.schedule import Jitter
from app.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorbells:
    """One for each loop that the rest of the process can wake, named by what it waits for."""

    submitted: Doorbell
    polled: Doorbell
    announced: Doorbell
    archived: Doorbell
    pruned: Doorbell
    beaten: Doorbell

    def ring_all(self) -> None:
        for field in fields(self):
            getattr(self, field.name).ring()


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    settings: Settings
    configs: Configs
    clock: Clock
    jitter: Jitter
    metrics: Metrics
    tracing: Tracing
    database: Database
    doorbells: Doorbells
    keys: Sequence[SecretBytes]
    public_url: str
    closing: asyncio.Event

    def signer(self, purpose: str) -> Signer:
        return Signer(self.keys, purpose=purpose)


@asynccontextmanager
async def opened_base(
    settings: Settings,
    *,
    clock: Clock,
    metrics: Metrics,
    tracing: Tracing,
    public_url: str,
    closing: asyncio.Event,
) -> AsyncIterator[Base]:
    async with opened_database(settings.database_url) as database:
        yield Base(
            settings=settings,
            configs=Configs.of(settings),
            clock=clock,
            jitter=random.random,
            metrics=metrics,
            tracing=tracing,
            database=database,
            doorbells=_doorbells(clock),
            keys=secret_keys(settings),
            public_url=public_url,
            closing=closing,
        )


def _doorbells(clock: Clock) -> Doorbells:
    return Doorbells(**{field.name: Doorbell(clock=clock) for field in fields(Doorbells)})
