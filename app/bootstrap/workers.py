"""Makes the loops that work in the background, each with the doorbell that wakes it."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from app.api.deps import Services
from app.bootstrap.base import Base, Doorbells
from app.bootstrap.remotes import Remotes
from app.bootstrap.stores import Stores
from app.catalogue.entries import MAX_MODELS
from app.core.ids import new_id
from app.core.stopping import run_until
from app.jobs.queue.polls import PollQueue
from app.jobs.queue.submits import SubmitQueue
from app.jobs.recorder import Recorder
from app.jobs.retention import Retention
from app.jobs.timing.poll_times import PollTimes
from app.jobs.timing.schedule import Pace
from app.storage.copies import CopyQueue
from app.upstream.catalogue import CatalogueReader
from app.worker.archiver import Archiver
from app.worker.catalogue import CatalogueKeeper
from app.worker.deliverer import Deliverer
from app.worker.dispatcher import Dispatcher
from app.worker.heartbeat import Heartbeat
from app.worker.poller import Poller
from app.worker.pruner import Pruner

_END_WITHIN = timedelta(seconds=7)  # enough for the longest grace and a last write


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """`name` is unique to this process: the jobs it follows stay with it while it keeps polling."""

    name: str
    recorder: Recorder
    catalogue: CatalogueKeeper
    dispatcher: Dispatcher
    poller: Poller
    pruner: Pruner
    retention: Retention
    deliverer: Deliverer
    heartbeat: Heartbeat
    archiver: Archiver | None
    doorbells: Doorbells

    async def run(self, stop: asyncio.Event, *, delivers: bool = True) -> None:
        """Work until `stop`, then finish what is being written."""
        loops = [
            self.dispatcher.loop.run(stop),
            self.poller.loop.run(stop),
            self.catalogue.run(stop),
            self.pruner.run(stop),
            self.heartbeat.run(stop),
        ]
        if delivers:
            loops.append(self.deliverer.loop.run(stop))
        if self.archiver is not None:
            loops.append(self.archiver.loop.run(stop))
        await run_until(stop, loops, ring=self.doorbells.ring_all, within=_END_WITHIN)


def make_workers(base: Base, remotes: Remotes, stores: Stores, services: Services) -> Workers:
    clock, configs, doorbells = base.clock, base.configs, base.doorbells
    name = new_id("worker")
    recorder = Recorder(
        database=base.database,
        config=configs.queue,
        metrics=base.metrics,
        clock=clock,
        deliverer=doorbells.deliverer,
    )
    poll_times = PollTimes(
        forecast=stores.forecast,
        pace=Pace(config=configs.queue.schedule, polls_per_second=configs.queue.polls_per_second),
        job_timeout=configs.queue.job_timeout,
        late_watch=configs.queue.late_watch,
        jitter=base.jitter,
    )
    dispatcher = Dispatcher(
        queue=SubmitQueue(
            database=base.database,
            config=configs.queue,
            roster=stores.roster,
            record=recorder.record,
            metrics=base.metrics,
            clock=clock,
        ),
        recorder=recorder,
        poll_times=poll_times,
        poller=name,
        roster=stores.roster,
        upstream=remotes.upstream,
        inputs=stores.inputs,
        config=configs.dispatcher,
        tracing=base.tracing,
        clock=clock,
        jitter=base.jitter,
        doorbell=doorbells.dispatcher,
    )
    poller = Poller(
        queue=PollQueue(
            database=base.database,
            config=configs.queue,
            roster=stores.roster,
            poller=name,
            times=poll_times,
            clock=clock,
        ),
        recorder=recorder,
        poll_times=poll_times,
        upstream=remotes.upstream,
        config=configs.poller,
        metrics=base.metrics,
        tracing=base.tracing,
        clock=clock,
        doorbell=doorbells.poller,
    )
    retention = Retention(
        database=base.database,
        sweeper=stores.sweeper,
        life=timedelta(days=base.settings.retention_days),
        archives=configs.queue.archives,
        clock=clock,
    )
    return Workers(
        name=name,
        recorder=recorder,
        catalogue=CatalogueKeeper(
            store=stores.catalogue_store,
            reader=CatalogueReader([*remotes.upstream.values()], most=MAX_MODELS),
            refresh=timedelta(seconds=base.settings.catalogue_refresh_seconds) or None,
            metrics=base.metrics,
            clock=clock,
        ),
        dispatcher=dispatcher,
        poller=poller,
        pruner=Pruner(
            chores=(
                stores.sweeper.expire,
                stores.sweeper.prune,
                services.client_tokens.prune,
                retention.prune_jobs,
                retention.prune_erased,
                retention.prune_deliveries,
                retention.prune_findings,
                retention.prune_keys,
            ),
            doorbell=doorbells.pruner,
            clock=clock,
        ),
        retention=retention,
        deliverer=Deliverer(
            queue=stores.deliveries,
            sender=remotes.receivers,
            jobs=services.jobs,
            wire=services.wire,
            config=configs.deliverer,
            tracing=base.tracing,
            clock=clock,
            jitter=base.jitter,
            doorbell=doorbells.deliverer,
        ),
        heartbeat=Heartbeat(
            health=services.health,
            worker=name,
            loops=(dispatcher.loop, poller.loop),
            doorbell=doorbells.heart,
            clock=clock,
        ),
        archiver=_archiver(base, remotes, stores),
        doorbells=doorbells,
    )


def _archiver(base: Base, remotes: Remotes, stores: Stores) -> Archiver | None:
    if not base.settings.archives or stores.objects is None:
        return None
    return Archiver(
        copies=CopyQueue(
            database=base.database, lease=base.configs.archiver.lease, clock=base.clock
        ),
        storage=stores.objects,
        outputs=remotes.copies,
        config=base.configs.archiver,
        metrics=base.metrics,
        clock=base.clock,
        doorbell=base.doorbells.archiver,
    )
