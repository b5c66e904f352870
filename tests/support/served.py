"""A gateway on a real socket in the test's event loop, with workers and a fast sandbox."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.sandbox import SandboxConfig, running_sandbox
from app.server import running_gateway
from app.settings import Settings, explicit_settings
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE, TOKEN
from tests.support.keys import make_key

_TAKES = itertools.count(1)


@dataclass
class Served:
    """`http` is alice's client."""

    url: str
    http: httpx.AsyncClient
    database_url: str

    def client(self, token: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60
        )

    def admin(self) -> httpx.AsyncClient:
        return self.client(ADMIN_TOKEN)

    async def key_of(self, user: str) -> str:
        return await make_key(self.database_url, user)

    async def submit(self, words: str = "", **headers: str) -> httpx.Response:
        return await self.http.post("/v1/jobs", json=body(words), headers=headers)


def body(words: str = "") -> dict[str, Any]:
    picture = "https://example.com/a.png"
    prompt = f"take {next(_TAKES)} {words}"
    return {
        "model": SEEDANCE,
        "input": {"prompt": prompt, "first_frame_image_url": picture, "duration": 2},
    }


def settings_of(database_url: str, *, upstream_url: str, **more: Any) -> Settings:
    return explicit_settings(
        api_token=TOKEN,
        upstream_url=upstream_url,
        database_url=database_url,
        secret_key="0123456789abcdef" * 4,
        admin_token=f"ops:{ADMIN_TOKEN}",
        polls_per_second=500,
        inspect_media="off",
        **more,
    )


@asynccontextmanager
async def served(database_url: str, folder: Path, **more: Any) -> AsyncIterator[Served]:
    config = SandboxConfig(directory=folder / "sandbox", token=TOKEN, speed=20)
    async with (
        running_sandbox(config) as upstream_url,
        running_gateway(settings_of(database_url, upstream_url=upstream_url, **more)) as url,
    ):
        one = Served(url, httpx.AsyncClient(timeout=60), database_url)
        async with one.client(await one.key_of("alice")) as one.http:
            yield one
