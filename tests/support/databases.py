"""A database of its own for every test, copied from one that was migrated once."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psycopg
from psycopg.sql import SQL, Identifier

from app.db.migrate import upgrade

_COPIES_THROUGH_THE_LOG = 150000  # from Postgres 15 on, unless told otherwise


class Databases(Protocol):
    """Hands out databases by URL, each gone when its block ends."""

    def fresh(self) -> AbstractContextManager[str]:
        """Make a database with this release's schema and no data."""
        ...

    def empty(self) -> AbstractContextManager[str]:
        """Make a database with no schema either."""
        ...


class SqliteDatabases:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def fresh(self) -> Iterator[str]:
        with self.empty() as url:
            shutil.copyfile(self._template, url.removeprefix("sqlite:///"))
            yield url

    @contextmanager
    def empty(self) -> Iterator[str]:
        # A folder each: the gateway keeps its key and its lock beside the file.
        with tempfile.TemporaryDirectory(dir=self._directory) as folder:
            yield f"sqlite:///{folder}/gateway.db"

    @cached_property
    def _template(self) -> Path:
        path = self._directory / "template.db"
        upgrade(f"sqlite:///{path}")
        return path


class PostgresDatabases:
    """Databases of one server; `prefix` keeps the test processes that share it apart."""

    def __init__(self, server: psycopg.Connection, url: str, *, prefix: str) -> None:
        self._server = server
        self._server_url = url
        self._prefix = prefix
        self._numbers = itertools.count(1)

    @contextmanager
    def fresh(self) -> Iterator[str]:
        with self._database(like=self._template) as url:
            yield url

    @contextmanager
    def empty(self) -> Iterator[str]:
        with self._database(like="template0") as url:
            yield url

    @contextmanager
    def _database(self, *, like: str) -> Iterator[str]:
        name = f"{self._prefix}_{next(self._numbers)}"
        self._create(name, like=like)
        try:
            yield self._url(name)
        finally:
            self._drop(name)

    @cached_property
    def _template(self) -> str:
        name = f"{self._prefix}_template"
        self._create(name, like="template0")
        upgrade(self._url(name))
        return name

    def _create(self, name: str, *, like: str) -> None:
        statement = SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(like))
        if self._server.info.server_version >= _COPIES_THROUGH_THE_LOG:
            statement += SQL(" STRATEGY file_copy")  # takes a third of the time
        self._server.execute(statement)

    def _drop(self, name: str) -> None:
        self._server.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def _url(self, name: str) -> str:
        return urlsplit(self._server_url)._replace(path=f"/{name}").geturl()


@contextmanager
def postgres_databases(url: str, *, prefix: str) -> Iterator[Databases]:
    """Hand out databases while the block lasts, over one connection: Postgres forks for each."""
    with psycopg.connect(url, autocommit=True) as server:
        yield PostgresDatabases(server, url, prefix=prefix)
