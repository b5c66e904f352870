"""A gateway that tells receivers on this machine."""

from collections.abc import AsyncIterator

import pytest

from app.core.clock import ManualClock, SystemClock
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.receiver import Receiver, receiving
from tests.support.webhooks import LOOPBACK


@pytest.fixture
def clock() -> ManualClock:
    """Begin now: the reference library verifies by the time of day."""
    return ManualClock(SystemClock().now())


@pytest.fixture
async def gateway(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[Gateway]:
    """Open a gateway whose operator lets webhooks reach this machine."""
    async with running(
        database_url, sandbox=sandbox, clock=clock, webhook_networks=[LOOPBACK]
    ) as running_one:
        yield running_one


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one
