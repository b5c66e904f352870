"""What every part needs: the settings of this process, its clock, its database, its doorbells."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from pydantic import SecretBytes

from app.bootstrap.configs import Configs
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.metrics import Metrics
from app.core.signatures import Signer
from app.core.tracing import Tracing
from app.db.engine import Database
from app.jobs.timing.schedule import Jitter
from app.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorbells:
    """One for each loop that the rest of the process can wake."""

    dispatcher: Doorbell
    poller: Doorbell
    deliverer: Doorbell
    archiver: Doorbell
    pruner: Doorbell
    heart: Doorbell

    @classmethod
    def made(cls, clock: Clock) -> Self:
        return cls(**{field.name: Doorbell(clock=clock) for field in fields(cls)})

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
