"""One sandbox on a loopback socket per module, with a clock that the tests move."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.clock import ManualClock
from app.sandbox import SandboxConfig, running_sandbox
from tests.sandbox.caller import Sandbox, client


@pytest.fixture(scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    clock = ManualClock()
    config = SandboxConfig(directory=tmp_path_factory.mktemp("sandbox"))
    async with running_sandbox(config, port=0, clock=clock) as base, client(base) as http:
        yield Sandbox(http, clock)


@pytest.fixture
def config(tmp_path: Path) -> SandboxConfig:
    return SandboxConfig(directory=tmp_path / "sandbox")
