"""Endpoints and their deliveries by the calls that clients make."""

from typing import Any

import httpx

from tests.support.gateway import Gateway

ENDPOINTS = "/v1/webhook-endpoints"
LOOPBACK = "127.0.0.0/8"


async def make(
    client: httpx.AsyncClient, url: str, events: list[str] | None = None, **headers: str
) -> dict[str, Any]:
    body = {"url": url} if events is None else {"url": url, "events": events}
    answer = await client.post(ENDPOINTS, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"{ENDPOINTS}/{made['id']}"
    return made


async def deliveries(gateway: Gateway, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await gateway.http.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries?limit=100")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def submit(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job
