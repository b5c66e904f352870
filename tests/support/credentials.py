"""Credentials of every kind, made the way their owners make them."""

from typing import Any

import httpx

from tests.support.gateway import Gateway

ALL_SCOPES = ("jobs:read", "jobs:write", "files", "webhooks", "tokens")


async def client_with_key(
    gateway: Gateway, user: str = "alice", **fields: Any
) -> httpx.AsyncClient:
    """Make a key, and its user on first use; by default with every scope but act_as."""
    await gateway.admin.post("/v1/admin/users", json={"id": user})
    key = {"user": user, "scopes": list(ALL_SCOPES), **fields}
    answer = await gateway.admin.post("/v1/admin/keys", json=key)
    assert answer.status_code == 201, answer.text
    return gateway.client_with(answer.json()["key"])


async def minted(maker: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    if "job" not in fields:
        fields = {"scopes": ["jobs:read", "jobs:write"]} | fields
    answer = await maker.post("/v1/client-tokens", json=fields)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def client_with_token(
    gateway: Gateway, maker: httpx.AsyncClient, **fields: Any
) -> httpx.AsyncClient:
    return gateway.client_with((await minted(maker, **fields))["token"])
