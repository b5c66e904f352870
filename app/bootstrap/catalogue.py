"""The models of this gateway's upstream."""

from contextlib import suppress
from datetime import timedelta

from app.catalogue.service import Catalogue
from app.catalogue.store import CatalogueStore
from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError
from app.db.engine import Database
from app.settings import Settings


async def open_catalogue(
    settings: Settings, *, database: Database, clock: Clock
) -> tuple[Catalogue, CatalogueStore]:
    """Return the models as last read from this upstream, or those that ship with the gateway."""
    catalogue = Catalogue.bundled(allowed=settings.models)
    store = CatalogueStore(
        database=database,
        clock=clock,
        catalogue=catalogue,
        source=settings.upstream_url,
        refresh=timedelta(seconds=settings.catalogue_refresh_seconds),
    )
    with suppress(DatabaseUnavailableError):  # tried again every few seconds
        await store.load()
    return catalogue, store
