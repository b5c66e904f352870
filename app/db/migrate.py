"""Brings a database to this release's schema, from a checkout or from the installed package."""

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from app.core import bundled
from app.core.errors import ConfigurationError
from app.db import schema
from app.db.engine import driver_message, parse_url

logger = structlog.get_logger(__name__)


def upgrade(url: str) -> None:
    """Bring the schema up to date if it is not; many processes may do so at once."""
    if not schema.is_behind(url):
        return
    before = schema.read(url).revision
    try:
        command.upgrade(configuration(parse_url(url)), "head")
    except DBAPIError as exc:
        raise ConfigurationError(
            f"The database's schema cannot be brought up to date ({driver_message(exc)});"
            " fix that and run it again: no migration is left half done."
        ) from exc
    if (revision := schema.read(url).revision) != before:
        logger.info("database.migrated", revision=revision, before=before)


def configuration(url: URL) -> Config:
    config = Config()
    config.set_main_option("script_location", str(bundled.migrations()))
    config.attributes["url"] = url
    return config
