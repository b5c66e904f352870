"""A gateway with its own sandbox on a socket, and one browser for all tests of a process."""

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, expect

from app.server import running_gateway
from app.settings import explicit_settings
from tests.support.browser import running_browser
from tests.support.databases import Databases
from tests.support.gateway import ADMIN_TOKEN


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=60_000)  # a busy machine is not a fault of the pages
    async with running_browser() as running_one:
        yield running_one


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a migrated database, since to migrate it takes longer than all else here."""
    databases: Databases = request.getfixturevalue("_sqlite_databases")
    with databases.fresh() as url:
        yield url


@pytest.fixture(scope="module")
async def site(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Yield where a gateway serves all tests of a file, in the background and in real time."""
    databases: Databases = request.getfixturevalue("_sqlite_databases")
    with databases.fresh() as database_url:
        settings = explicit_settings(
            upstream_url="sandbox",
            database_url=database_url,
            admin_token=f"ops:{ADMIN_TOKEN}",
            sandbox_speed=4,
            allow_private_networks=True,
        )
        async with running_gateway(settings) as url:
            yield url
