"""Which schema a database has, and which this release needs; `migrate` brings it there.

Works without Alembic, which is heavy: a starting gateway seldom has anything to migrate.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Text,
    column,
    create_engine,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.core import bundled
from app.core.errors import AwayError, ConfigurationError
from app.db.engine import driver_message, parse_url
from app.db.models import SchemaReleaseRow
from app.db.sqlite import keep_log

logger = structlog.get_logger(__name__)

VERSION = table("alembic_version", column("version_num", Text))

_REVISION = re.compile(r"^revision = [\"'](\w+)[\"']$", re.MULTILINE)
_BEFORE = re.compile(r"^down_revision = [\"'](\w+)[\"']$", re.MULTILINE)  # the first has none

# The last two are about wrong options in the URL.
_CANNOT_OPEN = (OperationalError, sqlite3.Error, OSError, ProgrammingError, ValueError)


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema's revision, or None if empty, and the revisions of all releases that run on it."""

    revision: str | None
    releases: frozenset[str]


def is_behind(url: str) -> bool:
    """Whether migrations of this release have not been run yet.

    Raises ConfigurationError for the schema of a later release, unless that only expanded it.
    """
    schema = read(url)
    newest = newest_revision()
    if schema.revision is None or schema.revision in _migrations():
        return schema.revision != newest
    if newest not in schema.releases:
        raise ConfigurationError(
            f"The database's schema is at {schema.revision}, that of a later release, and this one"
            " does not run on it; start the later release."
        )
    logger.info("database.newer", revision=schema.revision)
    return False


def require_current(url: str) -> None:
    """Refuse to start on the schema of another release, unless a later one only expanded it."""
    if is_behind(url):
        raise ConfigurationError(
            f"The database's schema is at {read(url).revision or 'nothing'}, this release needs"
            f" {newest_revision()}; run `gateway db upgrade` first."
        )


def newest_revision() -> str:
    """Return the revision of the schema that this release was made for."""
    migrations = _migrations()
    (newest,) = migrations.keys() - migrations.values()
    return newest


def read(url: str) -> Schema:
    """Read the schema's revision.

    Raises AwayError if the database may come back, any other ConfigurationError if not.
    """
    parsed = parse_url(url)
    try:
        _make_file(parsed)
        with _engine(parsed) as engine, engine.connect() as connection:
            _require_utf8(connection)
            is_made = inspect(connection).has_table(VERSION.name)
            revision = connection.scalar(select(VERSION.c.version_num)) if is_made else None
            if revision is None:
                return Schema(None, frozenset())
            releases = connection.execute(select(SchemaReleaseRow.revision)).scalars()
            return Schema(revision, frozenset(releases))
    except _CANNOT_OPEN as exc:
        raise _cannot_open(parsed, exc) from exc


def _require_utf8(connection: Connection) -> None:
    """Refuse a database that cannot store what clients write, such as one made under LANG=C."""
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database keeps text as {encoding}, which cannot hold all that clients write;"
            " create it with ENCODING 'UTF8' TEMPLATE template0."
        )


def _cannot_open(url: URL, exc: Exception) -> ConfigurationError:
    named = "GATEWAY_DATABASE_URL leads to no database that can be opened"
    correct = "correct the address and its options"
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "").absolute()
        return ConfigurationError(
            f"{named} ({path}: {driver_message(exc)});"
            f" {correct}, or give this user access to the file and its folder."
        )
    sentence = f"{named} ({driver_message(exc)}); start it, or {correct}."
    return (AwayError if isinstance(exc, OperationalError) else ConfigurationError)(sentence)


def _migrations() -> dict[str, str | None]:
    """Read each migration's revision, and the one before it, from its file."""
    texts = [path.read_text("utf-8") for path in (bundled.migrations() / "versions").glob("*.py")]
    return {
        revision[1]: before[1] if (before := _BEFORE.search(text)) else None
        for text in texts
        if (revision := _REVISION.search(text))
    }


@contextmanager
def _engine(url: URL) -> Iterator[Engine]:
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _make_file(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(url.database)) as file:
            keep_log(file)
