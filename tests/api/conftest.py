"""What several of these files need."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.clock import ManualClock
from tests.support.gateway import Gateway, Sandbox, running


@pytest.fixture
async def filing(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """Open a gateway that keeps files, and no outputs, in a folder."""
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        storage_url=f"file://{tmp_path}/kept",
        archive_outputs=False,
    ) as gateway:
        yield gateway
