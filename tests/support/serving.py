"""A gateway and its sandbox on real sockets inside the test's loop, with time as it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from app.auth.models import DEFAULT_SCOPES, Scope
from app.core.clock import SystemClock
from app.sandbox import SandboxConfig, running_sandbox
from app.server import running_gateway
from app.settings import explicit_settings
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE, TOKEN
from tests.support.processes import START_WITHIN_S


@dataclass
class Served:
    """`key` is alice's, and may mint client tokens; `picture` is one that the gateway can get."""

    url: str
    key: str
    picture: str

    def client(self) -> httpx.AsyncClient:
        """Return a client that follows no redirect, as RunComfy's own do."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60)


@asynccontextmanager
async def serving(folder: Path, *, speed: float, **settings: Any) -> AsyncIterator[Served]:
    config = SandboxConfig(directory=folder / "sandbox", token=TOKEN, speed=speed)
    async with running_sandbox(config) as upstream_url:
        made = explicit_settings(
            api_token=TOKEN,
            upstream_url=upstream_url,
            database_url=f"sqlite:///{folder}/gateway.db",
            admin_token=ADMIN_TOKEN,
            polls_per_second=500,
            allow_private_networks=True,
            **settings,
        )
        async with running_gateway(made) as url:
            served = Served(url, await _key(url), f"{upstream_url}/samples/first-frame.jpg")
            await _catalogue_is_read(served)
            yield served


async def _key(url: str) -> str:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as admin:
        await admin.post("/v1/admin/users", json={"id": "alice"})
        key = {"user": "alice", "scopes": [*DEFAULT_SCOPES, Scope.TOKENS]}
        made = await admin.post("/v1/admin/keys", json=key)
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


async def _catalogue_is_read(served: Served) -> None:
    """Wait for the sandbox's prices: before its first look at them a gateway knows none."""
    async with asyncio.timeout(START_WITHIN_S), served.client() as http:
        while (await http.get(f"/v1/models/{SEEDANCE}")).json()["base_price_usd"] is None:
            await SystemClock().sleep(timedelta(milliseconds=20))
