"""A gateway for each test of the console."""

from collections.abc import AsyncIterator

import pytest

from tests.support.browser import serving_pages


@pytest.fixture
async def site(sqlite_url: str) -> AsyncIterator[str]:
    """Serve to whoever names pictures that are names alone."""
    async with serving_pages(sqlite_url, inspect_media="off") as url:
        yield url
