"""A gateway and its sandbox on real sockets inside the test's loop, with time as it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.auth.models import DEFAULT_SCOPES, Scope
from app.sandbox import SandboxConfig, running_sandbox
from app.server import running_gateway
from app.settings import explicit_settings
from tests.support.gateway import ADMIN_TOKEN, TOKEN


@dataclass
class Served:
    """`key` is alice's, and may mint client tokens; `picture` is one that the gateway can get."""

    url: str
    key: str
    picture: str

    def client(self) -> httpx.AsyncClient:
        """Give a client that follows no redirect, as RunComfy's own do."""
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
            key = await _key(url)
            yield Served(url, key, f"{upstream_url}/samples/first-frame.jpg")


async def _key(url: str) -> str:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as admin:
        await admin.post("/v1/admin/users", json={"id": "alice"})
        key = {"user": "alice", "scopes": [*DEFAULT_SCOPES, Scope.TOKENS]}
        made = await admin.post("/v1/admin/keys", json=key)
    assert made.status_code == 201, made.text
    return str(made.json()["key"])
