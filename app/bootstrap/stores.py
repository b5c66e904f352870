"""What the edge and the background share: models, accounts, forecasts, deliveries, files."""

from dataclasses import dataclass
from datetime import timedelta

from app.bootstrap.base import Base
from app.bootstrap.catalogue import open_catalogue
from app.bootstrap.keys import webhook_sealer
from app.bootstrap.remotes import Remotes
from app.catalogue.service import Catalogue
from app.catalogue.store import CatalogueStore
from app.db.engine import Database
from app.jobs.inputs import JobInputs
from app.jobs.lanes.accounts import Roster
from app.jobs.timing.forecast import Forecast
from app.net.urls import is_reachable
from app.settings import Settings
from app.storage.archive import Archive
from app.storage.discards import Sweeper
from app.storage.files import FileService
from app.storage.links import FileLinks
from app.storage.objects import ObjectStorage
from app.storage.opening import open_folder, open_storage
from app.storage.rows import RowStorage, SplitStorage
from app.storage.store import Storage
from app.storage.uploads import Uploads
from app.webhooks.queue import DeliveryQueue
from app.webhooks.safe import Safe


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    catalogue: Catalogue
    catalogue_store: CatalogueStore

    roster: Roster
    forecast: Forecast

    safe: Safe
    deliveries: DeliveryQueue

    objects: ObjectStorage | None
    sweeper: Sweeper
    files: FileService
    uploads: Uploads
    file_links: FileLinks
    archive: Archive
    inputs: JobInputs


async def open_stores(base: Base, remotes: Remotes) -> Stores:
    database, clock, configs = base.database, base.clock, base.configs
    catalogue, catalogue_store = await open_catalogue(base.settings, database=database, clock=clock)
    roster = Roster(
        names=tuple(account.name for account in remotes.accounts),
        takers=tuple(account.name for account in remotes.accounts if not account.drains),
    )
    forecast = Forecast(database=database, clock=clock, config=configs.queue.schedule)
    safe = Safe(webhook_sealer(base.settings))
    objects = objects_of(base.settings)
    storage = storage_of(base.settings, objects=objects, database=database)
    sweeper = Sweeper(database=database, storage=storage, clock=clock)
    files = FileService(database=database, storage=storage, clock=clock)
    uploads = Uploads(
        database=database, storage=storage, sweeper=sweeper, config=configs.uploads, clock=clock
    )
    file_links = FileLinks(public_url=base.public_url, signer=base.signer("file links"))
    return Stores(
        catalogue=catalogue,
        catalogue_store=catalogue_store,
        roster=roster,
        forecast=forecast,
        safe=safe,
        deliveries=DeliveryQueue(
            database=database,
            safe=safe,
            config=configs.deliveries,
            metrics=base.metrics,
            clock=clock,
        ),
        objects=objects,
        sweeper=sweeper,
        files=files,
        uploads=uploads,
        file_links=file_links,
        archive=Archive(
            database=database,
            storage=objects,
            risk_after=timedelta(hours=base.settings.output_risk_hours),
            clock=clock,
        ),
        inputs=JobInputs(
            files=files,
            uploads=uploads,
            links=file_links if is_reachable(base.public_url) else None,
            link_life=configs.queue.job_timeout,
            clock=clock,
        ),
    )


def objects_of(settings: Settings) -> ObjectStorage | None:
    """Open the configured storage, or else a folder beside the SQLite file."""
    if settings.storage_url is not None:
        return open_storage(settings.storage_url)
    database = settings.sqlite_path
    return None if database is None else open_folder(database.with_name(f"{database.name}.files"))


def storage_of(settings: Settings, *, objects: ObjectStorage | None, database: Database) -> Storage:
    """Return where uploads go: on Postgres without a storage they are rows."""
    rows = RowStorage(database)
    if objects is None:
        return rows
    return objects if settings.is_sqlite else SplitStorage(objects=objects, rows=rows)
