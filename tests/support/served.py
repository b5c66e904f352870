"""A gateway and its sandbox on real sockets in the test's event loop, in real time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from app.auth.scopes import DEFAULT_SCOPES, Scope
from app.core.clock import SystemClock
from app.sandbox import SandboxConfig, running_sandbox
from app.server import running_gateway
from app.settings import Settings, explicit_settings
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE, TOKEN, Gateway
from tests.support.keys import make_key
from tests.support.processes import START_WITHIN_S


@dataclass
class Served:
    """`http` is alice's client, whose key may mint client tokens, and follows no redirect.

    `picture` is one that the gateway can get.
    """

    url: str
    key: str
    http: httpx.AsyncClient
    picture: str
    database_url: str

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """Return a new client, alice's if no token is given."""
        return client(self.url, token or self.key)

    def admin(self) -> httpx.AsyncClient:
        return client(self.url)

    async def key_of(self, user: str) -> str:
        return await make_key(self.database_url, user)

    async def knows_prices(self) -> None:
        """Wait until the gateway has read the sandbox's prices; it starts without any."""
        async with asyncio.timeout(START_WITHIN_S):
            while (await self.http.get(f"/v1/models/{SEEDANCE}")).json()["base_price_usd"] is None:
                await SystemClock().sleep(timedelta(milliseconds=20))

    async def submit(self, words: str = "", **headers: str) -> httpx.Response:
        return await self.http.post("/v1/jobs", json=Gateway.body(words), headers=headers)


def settings_of(database_url: str, *, upstream_url: str, **more: Any) -> Settings:
    return explicit_settings(
        api_token=TOKEN,
        upstream_url=upstream_url,
        database_url=database_url,
        secret_key="0123456789abcdef" * 4,
        admin_token=f"ops:{ADMIN_TOKEN}",
        polls_per_second=500,
        **{"inspect_media": "off", **more},
    )


@asynccontextmanager
async def serving(
    database_url: str, folder: Path, *, speed: float = 20, **more: Any
) -> AsyncIterator[Served]:
    config = SandboxConfig(directory=folder / "sandbox", token=TOKEN, speed=speed)
    async with (
        running_sandbox(config) as upstream_url,
        running_gateway(settings_of(database_url, upstream_url=upstream_url, **more)) as url,
    ):
        key = await make_key(database_url, scopes=[*DEFAULT_SCOPES, Scope.TOKENS])
        picture = f"{upstream_url}/samples/first-frame.jpg"
        async with client(url, key) as http:
            yield Served(url, key, http, picture, database_url)


def client(url: str, token: str = ADMIN_TOKEN) -> httpx.AsyncClient:
    """Make a client, an operator's if no token is given."""
    headers = {"Authorization": f"Bearer {token}"}
    # Reading certificates, which nothing here needs, takes 20 ms.
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60, verify=False)
