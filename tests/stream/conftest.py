"""A database that several processes share."""

from collections.abc import Iterator

import pytest

from tests.support.databases import Databases


@pytest.fixture
def shared_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a migrated database on Postgres, which any number may open."""
    databases: Databases = request.getfixturevalue("_postgres_databases")
    with databases.fresh() as url:
        yield url
