"""Keys and client tokens on two replicas over one database: one change is seen by both at once."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.core.clock import ManualClock
from tests.support.credentials import client_with_key, minted
from tests.support.gateway import Gateway, Sandbox, running


@pytest.fixture
async def other(database_url: str, sandbox: Sandbox, clock: ManualClock) -> AsyncIterator[Gateway]:
    async with running(database_url, sandbox=sandbox, clock=clock) as replica:
        yield replica


async def test_rotation_and_revocation_are_seen_by_every_replica(
    gateway: Gateway, other: Gateway
) -> None:
    async def statuses(client: httpx.AsyncClient) -> list[int]:
        token = client.headers["Authorization"].removeprefix("Bearer ")
        return [
            (await replica.client_with(token).get("/v1/jobs")).status_code
            for replica in (gateway, other)
        ]

    first = await client_with_key(gateway)
    assert await statuses(first) == [200, 200]
    key_id = (await first.get("/v1/me")).json()["key"]
    of_first = gateway.client_with((await minted(first))["token"])

    # Rotated on one, the old secret goes on for the overlap on both, and not an instant longer.
    rotate = f"/v1/admin/keys/{key_id}/rotate"
    answer = await other.admin.post(rotate, json={"overlap_seconds": 30})
    second = gateway.client_with(answer.json()["key"])
    late_of_first = gateway.client_with((await minted(first))["token"])
    for client in (first, second, of_first, late_of_first):
        assert await statuses(client) == [200, 200]
    gateway.wait(29.9)
    assert await statuses(first) == [200, 200]
    gateway.wait(0.1)
    for client in (first, of_first, late_of_first):
        assert await statuses(client) == [401, 401]
    assert await statuses(second) == [200, 200]

    # A second rotation within an overlap ends the oldest secret; none at all ends the present one.
    answer = await gateway.admin.post(rotate, json={"overlap_seconds": 30})
    third = gateway.client_with(answer.json()["key"])
    answer = await gateway.admin.post(rotate, json={"overlap_seconds": 0})
    fourth = gateway.client_with(answer.json()["key"])
    for client in (second, third):
        assert await statuses(client) == [401, 401]
    assert await statuses(fourth) == [200, 200]

    made = await minted(fourth)
    app, kept = (gateway.client_with(each["token"]) for each in (made, await minted(fourth)))
    assert await statuses(app) == [200, 200]
    away = other.client_with(fourth.headers["Authorization"].removeprefix("Bearer "))
    assert (await away.delete(f"/v1/client-tokens/{made['id']}")).status_code == 204
    assert await statuses(app) == [401, 401]
    assert await statuses(kept) == [200, 200]

    assert (await other.admin.delete(f"/v1/admin/keys/{key_id}")).status_code == 204
    for client in (fourth, kept):
        assert await statuses(client) == [401, 401]
    refused = await gateway.admin.post(rotate, json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "key_revoked")
