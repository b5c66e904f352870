"""Whatever a test of this folder did to a gateway, its database must make sense afterwards."""

from collections.abc import AsyncIterator

import pytest

from tests.support.gateway import Gateway
from tests.support.invariants import assert_invariants


@pytest.fixture
async def gateway(gateway: Gateway, database_url: str) -> AsyncIterator[Gateway]:
    yield gateway
    await assert_invariants(database_url)
