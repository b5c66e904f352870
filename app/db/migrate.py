"""Bring a database to this release's schema, from a checkout or from the installed package."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, create_engine, inspect, make_url, select
from sqlalchemy.exc import OperationalError

from app.core import bundled
from app.core.errors import ConfigurationError
from app.db.engine import parse_url
from app.db.models import SchemaReleaseRow

logger = structlog.get_logger(__name__)


def upgrade(url: str) -> None:
    """Bring the schema up to date; does nothing where it is, and may be run by many at once."""
    parsed = synchronous(url)
    had = _schema(parsed)
    if _is_newer(parsed, had):
        return
    command.upgrade(configuration(parsed), "head")
    if (has := _schema(parsed)).revision != had.revision:
        logger.info("database.migrated", revision=has.revision, before=had.revision)


def require_current(url: str) -> None:
    """Refuse to start on a schema of another release, unless a later one made it for both."""
    parsed = synchronous(url)
    schema = _schema(parsed)
    if _is_newer(parsed, schema):
        return
    needs = _scripts(parsed).get_current_head()
    if schema.revision != needs:
        raise ConfigurationError(
            f"The database's schema is at {schema.revision or 'nothing'}, this release needs"
            f" {needs}; run `gateway db upgrade` first."
        )


def newest_revision() -> str | None:
    """Name the schema that this release was made for."""
    return _scripts(make_url("sqlite://")).get_current_head()


def configuration(url: URL) -> Config:
    config = Config()
    config.set_main_option("script_location", str(bundled.migrations()))
    config.attributes["url"] = url
    return config


def synchronous(url: str) -> URL:
    """Name the blocking driver that Alembic uses for a database URL."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed
    return parsed.set(drivername="postgresql+psycopg")


@dataclass(frozen=True, slots=True)
class _Schema:
    """Where the schema is, None for an empty database, and whose releases run on it."""

    revision: str | None
    releases: frozenset[str]


def _scripts(url: URL) -> ScriptDirectory:
    return ScriptDirectory.from_config(configuration(url))


def _is_newer(url: URL, schema: _Schema) -> bool:
    """Tell whether a later release has expanded the schema; raises if it did more than that."""
    scripts = _scripts(url)
    if schema.revision is None or schema.revision in {
        script.revision for script in scripts.walk_revisions()
    }:
        return False
    if scripts.get_current_head() not in schema.releases:
        raise ConfigurationError(
            f"The database's schema is at {schema.revision}, that of a later release, and this one"
            " does not run on it; start the later release."
        )
    logger.info("database.newer", revision=schema.revision)
    return True


def _schema(url: URL) -> _Schema:
    """Read where the schema is; raises ConfigurationError if there is no database."""
    engine = create_engine(url)
    try:
        _make_file(url)
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            if not inspect(connection).has_table(SchemaReleaseRow.__tablename__):
                return _Schema(revision, frozenset())
            releases = connection.execute(select(SchemaReleaseRow.revision)).scalars()
            return _Schema(revision, frozenset(releases))
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
