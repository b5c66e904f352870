"""Bring a database to this release's schema, from a checkout or from the installed package."""

import sqlite3
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, create_engine
from sqlalchemy.exc import OperationalError

from app.core import bundled
from app.core.errors import ConfigurationError
from app.db.engine import parse_url

logger = structlog.get_logger(__name__)


def upgrade(url: str) -> None:
    """Bring the schema up to date; does nothing where it is, and may be run by many at once."""
    parsed = synchronous(url)
    had = _revision(parsed)
    command.upgrade(configuration(parsed), "head")
    if (has := _revision(parsed)) != had:
        logger.info("database.migrated", revision=has, before=had)


def require_current(url: str) -> None:
    """Refuse to start on a schema of another release."""
    parsed = synchronous(url)
    has = _revision(parsed)
    needs = ScriptDirectory.from_config(configuration(parsed)).get_current_head()
    if has != needs:
        raise ConfigurationError(
            f"The database's schema is at {has or 'nothing'}, this release needs {needs};"
            " run `gateway db upgrade` first."
        )


def configuration(url: URL) -> Config:
    config = Config()
    config.set_main_option("script_location", str(bundled.migrations()))
    config.attributes["url"] = url
    return config


def synchronous(url: str) -> URL:
    """Name the blocking driver that Alembic uses for a database URL."""
    parsed = parse_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    return parsed.set(drivername="sqlite" if is_sqlite else "postgresql+psycopg")


def _revision(url: URL) -> str | None:
    """Tell where the schema is, None for an empty database; raises ConfigurationError."""
    engine = create_engine(url)
    try:
        _make_file(url)
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except (OperationalError, sqlite3.Error, OSError) as exc:
        raise ConfigurationError(
            "GATEWAY_DATABASE_URL leads to no database that can be opened;"
            " start it, or correct the address."
        ) from exc
    finally:
        engine.dispose()


def _make_file(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        # WAL stays with the file, so readers never meet the rollback journal's locks.
        connection = sqlite3.connect(url.database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
