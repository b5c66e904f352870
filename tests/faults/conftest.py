"""Whatever a test of this folder did to a gateway, its database must make sense afterwards."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.databases import Databases
from tests.support.gateway import Gateway
from tests.support.invariants import assert_invariants


@pytest.fixture
async def gateway(gateway: Gateway, database_url: str) -> AsyncIterator[Gateway]:
    yield gateway
    await assert_invariants(database_url)


@pytest.fixture
def postgres_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a migrated database on Postgres, for what SQLite has nothing of."""
    databases: Databases = request.getfixturevalue("_postgres_databases")
    with databases.fresh() as url:
        yield url
