"""The composition root: settings in, services out, closed in reverse."""

import asyncio
import os
import random
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import SecretBytes, SecretStr

from app.api.deps import Services
from app.audit.service import AuditTrail
from app.auth.clients.service import ClientTokens
from app.auth.directory.keys import KeyDirectory
from app.auth.directory.plans import PlanDirectory
from app.auth.directory.users import UserDirectory
from app.auth.models import Holder
from app.auth.oidc.keys import IssuerKeys
from app.auth.oidc.service import OidcSignIn
from app.auth.oidc.verifier import OidcVerifier
from app.auth.operators import OperatorGate
from app.auth.service import AuthService
from app.auth.standing import Standing
from app.catalogue.outside import MAX_MODELS
from app.catalogue.service import Catalogue
from app.catalogue.store import CatalogueStore
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import ConfigurationError, DatabaseUnavailableError
from app.core.metrics import Metrics
from app.core.sealing import Sealer
from app.core.signatures import Signer
from app.core.tracing import Tracing
from app.db.engine import Database, open_database
from app.db.notices import Notices
from app.events.hub import Hub
from app.events.log import CHANNEL
from app.jobs.accounts import Roster, count_unfinished
from app.jobs.census import Census
from app.jobs.feed import JobFeed
from app.jobs.forecast import Forecast
from app.jobs.health import HealthService
from app.jobs.inputs import JobInputs
from app.jobs.links import JobLinks
from app.jobs.operator import OperatorJobs
from app.jobs.overview import JobOverview
from app.jobs.queue import JobQueue, QueueConfig
from app.jobs.retention import Retention
from app.jobs.schedule import Jitter, ScheduleConfig
from app.jobs.service import JobService
from app.jobs.wire import JobWire
from app.media.inspector import InspectorConfig, MediaInspector
from app.media.uploads import UploadedFiles
from app.net.clients import trusted
from app.net.guard import guarded
from app.net.origins import origin_of
from app.net.reach import Reach
from app.net.remote_file import RemoteFiles
from app.net.urls import is_reachable
from app.quotas.prices import PricesService
from app.quotas.repository import EntryKind
from app.quotas.service import QuotaService
from app.sandbox import SandboxConfig, running_sandbox
from app.settings import Settings
from app.storage.archive import Archive, ArchiveConfig
from app.storage.discards import Sweeper
from app.storage.files import FilesConfig, FileService
from app.storage.links import FileLinks
from app.storage.store import Storage, open_folder, open_storage
from app.upstream.accounts import DEFAULT, Account, AccountClients
from app.upstream.catalogue import CatalogueReader
from app.upstream.measured import MeasuredUpstream
from app.upstream.outputs import OutputClient
from app.webhooks.addresses import WebhookAddresses
from app.webhooks.queue import DeliveryQueue, DeliveryQueueConfig
from app.webhooks.safe import Safe
from app.webhooks.sender import WebhookSender
from app.webhooks.service import WebhookService
from app.worker.archiver import Archiver, ArchiverConfig
from app.worker.catalogue import CatalogueKeeper
from app.worker.deliverer import Deliverer, DelivererConfig
from app.worker.dispatcher import Dispatcher, DispatcherConfig
from app.worker.heart import Heart
from app.worker.poller import Poller, PollerConfig
from app.worker.pruner import Pruner

# The sandbox takes any token; one of its own keeps a real one out of its database.
_SANDBOX_ACCOUNT = Account(DEFAULT, SecretStr("sandbox-token"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    catalogue: CatalogueKeeper
    dispatcher: Dispatcher
    poller: Poller
    pruner: Pruner
    retention: Retention
    deliverer: Deliverer
    heart: Heart

    archiver: Archiver | None
    doorbells: tuple[Doorbell, ...]

    async def run(self, stop: asyncio.Event, *, delivers: bool = True) -> None:
        """Work until `stop`, then finish what is being written."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.dispatcher.loop.run(stop))
            group.create_task(self.poller.loop.run(stop))
            group.create_task(self.catalogue.run(stop))
            group.create_task(self.pruner.run(stop))
            if delivers:
                group.create_task(self.deliverer.loop.run(stop))
            group.create_task(self.heart.run(stop))
            if self.archiver is not None:
                group.create_task(self.archiver.loop.run(stop))
            await stop.wait()
            for doorbell in self.doorbells:
                doorbell.ring()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a process is made of: `services` for the edge, the rest for the background."""

    hub: Hub[Holder]
    services: Services
    issuer_keys: IssuerKeys | None
    queue: JobQueue
    deliveries: DeliveryQueue
    workers: Workers

    async def free_leases(self) -> None:
        """End what a dead process held; only where no other process can hold anything."""
        await self.queue.free_leases()
        await self.deliveries.free_leases()


_UNKNOWN_ENDS: Mapping[str, Literal[EntryKind.SETTLE, EntryKind.RELEASE]] = {
    "settle": EntryKind.SETTLE,
    "release": EntryKind.RELEASE,
}


@asynccontextmanager
async def open_parts(  # noqa: PLR0915 - one list of parts, read from top to bottom
    settings: Settings,
    *,
    clock: Clock,
    metrics: Metrics,
    tracing: Tracing,
    public_url: str,
    closing: asyncio.Event,
    jitter: Jitter = random.random,
) -> AsyncIterator[Parts]:
    """Put everything together; the database must be migrated already."""
    async with AsyncExitStack() as stack:
        database = open_database(settings.database_url)
        stack.push_async_callback(database.close)
        upstream_url, pool = await _upstream(settings, clock=clock, stack=stack)
        lease = timedelta(seconds=settings.lease_seconds)
        dispatcher_config = DispatcherConfig(lease=lease)
        poller_config = PollerConfig(
            timeout=min(lease / 3, timedelta(seconds=10)),
            charge_late=settings.late_success == "charge",
        )
        # Idle connections of submits are dropped early: one that upstream has just closed would
        # make a submit look as if its answer had been lost.
        submits = trusted(
            timeout=dispatcher_config.submit_timeout,
            connections=dispatcher_config.submits_at_once,
            keepalive=timedelta(seconds=3),
        )
        reads = trusted(
            timeout=poller_config.timeout,
            connections=poller_config.polls_at_once,
            keepalive=timedelta(seconds=30),
        )
        files = trusted(
            timeout=timedelta(seconds=30), connections=500, keepalive=timedelta(seconds=15)
        )
        copies = trusted(
            timeout=timedelta(seconds=30), connections=8, keepalive=timedelta(seconds=15)
        )
        inspector_config = InspectorConfig(mode=settings.inspect_media)
        outside = guarded(
            deadline=inspector_config.deadline,
            reach=Reach(private=settings.allow_private_networks),
        )
        for client in (submits, reads, files, copies, outside):
            stack.push_async_callback(client.aclose)
        upstream = AccountClients(
            {
                account.name: MeasuredUpstream(
                    metrics=metrics,
                    clock=clock,
                    base_url=upstream_url,
                    token=account.token,
                    submits=submits,
                    reads=reads,
                    submit_retry_statuses=frozenset(settings.submit_retry_statuses),
                )
                for account in pool
            }
        )
        roster = Roster(
            names=tuple(account.name for account in pool),
            takers=tuple(account.name for account in pool if not account.drains),
        )
        schedule = ScheduleConfig()
        forecast = Forecast(database=database, clock=clock, config=schedule)
        keys = _secret_keys(settings)
        submitted, polled, announced, pruned, archived, beaten = (
            Doorbell(clock=clock) for _ in range(6)
        )
        queue = JobQueue(
            database=database,
            forecast=forecast,
            metrics=metrics,
            config=QueueConfig(
                lease=lease,
                max_in_flight=settings.max_in_flight,
                polls_per_second=settings.polls_per_second,
                job_timeout=timedelta(seconds=settings.job_timeout_seconds),
                late_watch=timedelta(seconds=settings.late_watch_seconds),
                unknown_life=timedelta(hours=settings.submit_unknown_hours),
                unknown_ends=_UNKNOWN_ENDS[settings.submit_unknown_policy],
                schedule=schedule,
                archives=settings.archives,
            ),
            clock=clock,
            jitter=jitter,
            deliverer=announced,
            roster=roster,
        )
        storage = _storage(settings)
        sweeper = Sweeper(database=database, storage=storage, clock=clock)
        file_life = timedelta(days=settings.file_days)
        kept_files = FileService(
            database=database,
            storage=storage,
            sweeper=sweeper,
            config=FilesConfig(life=file_life),
            clock=clock,
        )
        archive = Archive(
            database=database,
            storage=storage,
            config=ArchiveConfig(
                lease=lease, risk_after=timedelta(hours=settings.output_risk_hours)
            ),
            clock=clock,
        )
        archiver = None
        if settings.archives and storage is not None:
            archiver = Archiver(
                archive=archive,
                storage=storage,
                outputs=OutputClient(
                    client=copies, hosts=settings.output_hosts, upstream=upstream_url
                ),
                config=ArchiverConfig(lease=lease),
                metrics=metrics,
                clock=clock,
                doorbell=archived,
            )
        file_links = FileLinks(public_url=public_url, signer=Signer(keys, purpose="file links"))
        inputs = JobInputs(
            files=kept_files,
            links=file_links if is_reachable(public_url) else None,
            link_life=timedelta(seconds=settings.job_timeout_seconds),
            clock=clock,
        )
        catalogue, store = await open_catalogue(settings, database=database, clock=clock)
        clients = ClientTokens(
            database=database,
            clock=clock,
            known_models=catalogue.input_fields,
            origins={*settings.cors_origins, origin_of(public_url)},
        )
        media = MediaInspector(
            remote=RemoteFiles(outside),
            uploads=UploadedFiles(kept_files),
            config=inspector_config,
            clock=clock,
        )
        stack.push_async_callback(media.aclose)
        safe = Safe(webhook_sealer(settings))
        reach = Reach(private=settings.allow_private_networks, networks=settings.webhook_networks)
        addresses = WebhookAddresses(reach)
        deliverer_config = DelivererConfig()
        deliveries = DeliveryQueue(
            database=database,
            safe=safe,
            config=DeliveryQueueConfig(lease=max(lease, deliverer_config.timeout * 2)),
            metrics=metrics,
            clock=clock,
        )
        retention = Retention(
            database=database,
            sweeper=sweeper,
            deliveries=deliveries,
            life=timedelta(days=settings.retention_days),
            clock=clock,
        )
        receivers = guarded(deadline=deliverer_config.timeout, reach=reach)
        stack.push_async_callback(receivers.aclose)
        # What users name is not watched: it would be told where the trace goes.
        tracing.watch(clients=(submits, reads), engines=database.engines)
        quotas = QuotaService(database=database, clock=clock)
        prices = PricesService(
            database=database,
            clock=clock,
            models=catalogue.input_fields,
        )
        issuer_keys = _issuer_keys(settings, clock=clock, stack=stack)
        jobs = JobService(
            database=database,
            catalogue=catalogue,
            clock=clock,
            closing=closing,
            dispatcher=submitted,
            media=media,
            forecast=forecast,
            poller=polled,
            deliverer=announced,
            webhook_addresses=addresses,
            prices=prices,
            quotas=quotas,
            tracing=tracing,
            allow_private_networks=settings.allow_private_networks,
            inputs=inputs,
            sweeper=sweeper,
            file_life=file_life,
        )
        wire = JobWire(
            public_url=public_url,
            signer=Signer(keys, purpose="output links"),
            durations=forecast.durations,
        )
        health = HealthService(database=database, clock=clock)
        dispatcher = Dispatcher(
            queue=queue,
            upstream=upstream,
            inputs=inputs,
            config=dispatcher_config,
            tracing=tracing,
            clock=clock,
            jitter=jitter,
            doorbell=submitted,
        )
        poller = Poller(
            queue=queue,
            upstream=upstream,
            config=poller_config,
            metrics=metrics,
            tracing=tracing,
            clock=clock,
            doorbell=polled,
        )
        hub = Hub(
            database=database,
            clock=clock,
            closing=closing,
            notices=(
                None
                if settings.is_sqlite
                else Notices(settings.database_url, channel=CHANNEL, clock=clock)
            ),
            lost=Standing(database=database, clock=clock).lost,
            most_per_user=settings.max_streams_per_user,
        )
        yield Parts(
            hub=hub,
            issuer_keys=issuer_keys,
            services=Services(
                audit=AuditTrail(database=database),
                auth=AuthService(
                    database=database,
                    clock=clock,
                    own_origin=origin_of(public_url),
                    oidc=None
                    if issuer_keys is None
                    else _sign_in(settings, issuer_keys, database=database, clock=clock),
                ),
                catalogue=catalogue,
                clients=clients,
                census=Census(database=database, archive=archive, metrics=metrics, clock=clock),
                clock=clock,
                closing=closing,
                archive=archive,
                feed=JobFeed(database=database),
                health=health,
                hub=hub,
                files=kept_files,
                file_links=file_links,
                jobs=jobs,
                keys=KeyDirectory(
                    database=database, clock=clock, known_models=catalogue.input_fields
                ),
                links=JobLinks(
                    public_url=public_url,
                    signer=Signer(keys, purpose="job links"),
                ),
                metrics_token=settings.metrics_token,
                operators=OperatorGate(settings.admin_token, clock=clock),
                outputs=OutputClient(
                    client=files, hosts=settings.output_hosts, upstream=upstream_url
                ),
                overview=JobOverview(database=database, clock=clock),
                operator_jobs=OperatorJobs(
                    database=database,
                    clock=clock,
                    dispatcher=submitted,
                    poller=polled,
                    late_watch=timedelta(seconds=settings.late_watch_seconds),
                    deliverer=announced,
                    roster=roster,
                ),
                quotas=quotas,
                plans=PlanDirectory(
                    database=database, clock=clock, known_models=catalogue.input_fields
                ),
                prices=prices,
                users=UserDirectory(database=database, clock=clock),
                webhooks=WebhookService(
                    database=database,
                    safe=safe,
                    addresses=addresses,
                    clock=clock,
                    deliverer=announced,
                ),
                wire=wire,
            ),
            queue=queue,
            deliveries=deliveries,
            workers=Workers(
                catalogue=CatalogueKeeper(
                    store=store,
                    reader=CatalogueReader(upstream.all, most=MAX_MODELS),
                    refresh=timedelta(seconds=settings.catalogue_refresh_seconds) or None,
                    metrics=metrics,
                    clock=clock,
                ),
                dispatcher=dispatcher,
                poller=poller,
                heart=Heart(
                    health=health,
                    worker=queue.name,
                    loops=(dispatcher.loop, poller.loop),
                    doorbell=beaten,
                    clock=clock,
                ),
                pruner=Pruner(
                    chores=(
                        sweeper.prune,
                        clients.prune,
                        retention.prune_jobs,
                        retention.prune_deliveries,
                        retention.prune_keys,
                    ),
                    doorbell=pruned,
                    clock=clock,
                ),
                retention=retention,
                archiver=archiver,
                deliverer=Deliverer(
                    queue=deliveries,
                    sender=WebhookSender(client=receivers, clock=clock),
                    jobs=jobs,
                    wire=wire,
                    config=deliverer_config,
                    tracing=tracing,
                    clock=clock,
                    jitter=jitter,
                    doorbell=announced,
                ),
                doorbells=(submitted, polled, announced, pruned, beaten, archived),
            ),
        )


async def require_accounts(settings: Settings) -> None:
    """Raise ConfigurationError if jobs are under way with accounts whose tokens are not here."""
    named = {DEFAULT} if settings.is_sandboxed else {one.name for one in settings.api_token}
    database = open_database(settings.database_url)
    try:
        needed = await database.read(count_unfinished)
    finally:
        await database.close()
    missing = sorted(set(needed) - named)
    if missing:
        kept = ", ".join(f"{name}=<its token>;drain" for name in missing)
        raise ConfigurationError(
            "RUNCOMFY_API_TOKEN does not name "
            + " and ".join(f"{name!r}, whose account has {_jobs(needed[name])}" for name in missing)
            + f" under way: add {kept} to it until they are over."
        )


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def webhook_sealer(settings: Settings) -> Sealer:
    """Give what webhook secrets are stored under."""
    return Sealer(_secret_keys(settings), purpose="webhook secrets")


async def open_catalogue(
    settings: Settings, *, database: Database, clock: Clock
) -> tuple[Catalogue, CatalogueStore]:
    """Give the models of the last read of this upstream, or those that ship with the gateway."""
    catalogue = Catalogue.bundled(allowed=settings.models)
    store = CatalogueStore(
        database=database,
        clock=clock,
        catalogue=catalogue,
        source=settings.upstream_name,
        refresh=timedelta(seconds=settings.catalogue_refresh_seconds),
    )
    with suppress(DatabaseUnavailableError):  # looked for again every few seconds
        await store.load()
    return catalogue, store


async def _upstream(
    settings: Settings, *, clock: Clock, stack: AsyncExitStack
) -> tuple[str, Sequence[Account]]:
    if not settings.is_sandboxed:
        return settings.upstream_url, settings.api_token
    database = settings.sqlite_path
    assert database is not None
    config = SandboxConfig(
        directory=database.with_name(f"{database.name}.sandbox"), speed=settings.sandbox_speed
    )
    return await stack.enter_async_context(running_sandbox(config, clock=clock)), [_SANDBOX_ACCOUNT]


def _storage(settings: Settings) -> Storage | None:
    """Open what was chosen; without a choice a folder beside the SQLite file serves uploads."""
    if settings.storage_url is not None:
        return open_storage(settings.storage_url)
    database = settings.sqlite_path
    return None if database is None else open_folder(database.with_name(f"{database.name}.files"))


def _issuer_keys(settings: Settings, *, clock: Clock, stack: AsyncExitStack) -> IssuerKeys | None:
    if settings.oidc is None:
        return None
    client = trusted(timeout=timedelta(seconds=5), connections=2, keepalive=timedelta(seconds=3))
    stack.push_async_callback(client.aclose)
    return IssuerKeys(issuer=settings.oidc.issuer, client=client, clock=clock)


def _sign_in(
    settings: Settings, keys: IssuerKeys, *, database: Database, clock: Clock
) -> OidcSignIn:
    assert settings.oidc is not None
    return OidcSignIn(
        database=database,
        clock=clock,
        verifier=OidcVerifier(settings.oidc, keys=keys, clock=clock),
        follows_plan=settings.oidc.plan_claim is not None,
    )


def _secret_keys(settings: Settings) -> list[SecretBytes]:
    if settings.secret_key:
        return [SecretBytes(key.get_secret_value().encode()) for key in settings.secret_key]
    assert settings.sqlite_path is not None
    return [_key_beside(settings.sqlite_path)]


def _key_beside(database: Path) -> SecretBytes:
    """Give the key of an SQLite gateway, made once and readable by its owner alone."""
    path = database.with_name(f"{database.name}.secret")
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=database.parent) as draft:  # 0600
            draft.write(secrets.token_hex(32).encode())
            draft.flush()
            with suppress(FileExistsError):  # another process was first: its key it is
                os.link(draft.name, path)
    return SecretBytes(path.read_bytes())
