"""What operators prepare for each test of the playground."""

from collections.abc import AsyncIterator

import pytest

from tests.support.playground import Directory


@pytest.fixture
async def directory(site: str) -> AsyncIterator[Directory]:
    made = Directory(site)
    yield made
    await made.http.aclose()
