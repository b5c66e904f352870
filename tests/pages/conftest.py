"""A gateway with its own sandbox on a socket, and one browser for all tests of a process."""

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import running_browser, serving_pages
from tests.support.databases import Databases


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
    """Yield where a gateway serves all tests of a file."""
    databases: Databases = request.getfixturevalue("_sqlite_databases")
    with databases.fresh() as database_url:
        async with serving_pages(database_url) as url:
            yield url
