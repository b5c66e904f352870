"""Bring a database to this release's schema, from a checkout or from the installed package."""

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import OperationalError

from app.core import bundled
from app.core.errors import ConfigurationError
from app.db.engine import parse_url


def upgrade(url: str) -> None:
    """Bring the schema up to date; does nothing where it is, and may be run by many at once."""
    parsed = synchronous(url)
    _make_folder(parsed)
    command.upgrade(configuration(parsed), "head")


def require_current(url: str) -> None:
    """Refuse to start on a schema of another release."""
    engine = create_engine(synchronous(url))
    try:
        has = _revision(engine)
    except OperationalError as exc:
        raise ConfigurationError(
            "GATEWAY_DATABASE_URL leads to no database that answers;"
            " start it, or correct the address."
        ) from exc
    finally:
        engine.dispose()
    needs = ScriptDirectory.from_config(configuration(synchronous(url))).get_current_head()
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


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _make_folder(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        # WAL stays with the file, so readers never meet the rollback journal's locks.
        connection = sqlite3.connect(url.database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
