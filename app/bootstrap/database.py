"""Prepares the database for a process: up to date, and on SQLite locked for this one alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from app.core.errors import ConfigurationError
from app.db import schema
from app.settings import Settings


def prepare_database(settings: Settings) -> None:
    """Migrate SQLite; the schema of a Postgres is the operator's to migrate, and only checked."""
    if not settings.is_sqlite:
        schema.require_current(settings.database_url)
    elif schema.is_behind(settings.database_url):
        from app.db import migrate  # noqa: PLC0415 - Alembic is heavy, and seldom needed

        migrate.upgrade(settings.database_url)


@contextmanager
def sole_worker(settings: Settings) -> Iterator[None]:
    """Hold the lock file of an SQLite gateway: two processes must not both work on its jobs."""
    if settings.sqlite_path is None:
        yield
        return
    database = settings.sqlite_path.resolve()  # one lock, through whichever link it is named
    path = database.with_name(f"{database.name}.lock")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise ConfigurationError(
            f"GATEWAY_DATABASE_URL leads to {database.parent}, where nothing can be written"
            f" ({exc.strerror}); the gateway needs a folder that its user can write to."
        ) from exc
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigurationError(
                f"Another gateway already uses {settings.sqlite_path}, and SQLite is for one;"
                " stop that one, or use Postgres for several."
            ) from exc
        yield
    finally:
        os.close(handle)
