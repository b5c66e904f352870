"""Slow receivers beside others: how many deliveries each may hold up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from app.core.clock import SystemClock
from tests.support.credentials import client_with_key
from tests.support.gateway import Gateway
from tests.support.receiver import Receiver, held, receiving
from tests.support.webhooks import ENDPOINTS, make, submit

pytestmark = pytest.mark.either_database

_LOOK = timedelta(milliseconds=10)


@asynccontextmanager
async def delivering(gateway: Gateway) -> AsyncIterator[None]:
    """Let the deliverer work by itself, as it does in a gateway that runs."""
    stop = asyncio.Event()
    working = asyncio.ensure_future(gateway.workers.deliverer.loop.run(stop))
    try:
        yield
    finally:
        stop.set()
        gateway.app.state.parts.workers.doorbells.deliverer.ring()
        await working


async def test_a_slow_receiver_holds_up_nobody_else(gateway: Gateway, receiver: Receiver) -> None:
    answering = asyncio.Event()
    bob = await gateway.client_of("bob")
    async with receiving(held(answering)) as slow:
        blocked = await make(bob, slow.url)
        for _ in range(60):
            await bob.post(f"{ENDPOINTS}/{blocked['id']}/test")
        endpoint = await make(gateway.http, receiver.url)
        await gateway.http.post(f"{ENDPOINTS}/{endpoint['id']}/test")
        async with delivering(gateway):
            async with asyncio.timeout(60):
                while not receiver.messages or len(slow.messages) < 32:
                    await SystemClock().sleep(_LOOK)
            assert len(slow.messages) == 32
            answering.set()
            async with asyncio.timeout(60):
                while len(slow.messages) < 60:
                    await SystemClock().sleep(_LOOK)


async def test_however_many_receivers_are_slow_there_is_a_place_for_another(
    gateway: Gateway, receiver: Receiver
) -> None:
    answering = asyncio.Event()
    async with receiving(held(answering)) as slow:
        for user in ("bob", "carol", "dave", "erin"):
            client = await gateway.client_of(user)
            blocked = await make(client, slow.url)
            for _ in range(40):
                await client.post(f"{ENDPOINTS}/{blocked['id']}/test")
        endpoint = await make(gateway.http, receiver.url)
        await gateway.http.post(f"{ENDPOINTS}/{endpoint['id']}/test")
        async with delivering(gateway):
            try:
                async with asyncio.timeout(60):
                    while not receiver.messages:
                        await SystemClock().sleep(_LOOK)
                assert len(slow.messages) < 128
            finally:
                answering.set()


async def test_a_receiver_holds_no_more_places_than_it_leaves_free(
    gateway: Gateway, receiver: Receiver
) -> None:
    url = f"{ENDPOINTS}/{(await make(gateway.http, receiver.url))['id']}/test"
    due = [(await gateway.http.post(url)).json()["id"] for _ in range(10)]
    claim = gateway.workers.deliverer.claim
    claimed = [[lease.id for lease, _ in await claim(free)] for free in (6, 5)]
    assert claimed == [due[:3], due[3:4]]


async def test_a_user_of_many_receivers_leaves_a_place_for_another(
    gateway: Gateway, receiver: Receiver
) -> None:
    for client, receivers in ((gateway.http, 8), (await gateway.client_of("bob"), 1)):
        for _ in range(receivers):
            endpoint = await make(client, receiver.url)
            await client.post(f"{ENDPOINTS}/{endpoint['id']}/test")
    claim = gateway.workers.deliverer.claim
    assert [len(await claim(free)) for free in (6, 3)] == [4, 1]
    [(lease, _)] = await claim(1)
    assert lease.user_id == "bob"


async def test_a_receiver_of_a_service_is_one_however_many_users_name_it(
    gateway: Gateway, receiver: Receiver
) -> None:
    shop = await client_with_key(gateway, "shop", scopes=["jobs:write", "act_as"])
    for number in range(40):
        acting = {"X-Gateway-User": f"u{number}"}
        job = await submit(shop, gateway.body() | {"webhook_url": receiver.url}, **acting)
        cancelled = await shop.post(f"/v1/jobs/{job['id']}/cancel", headers=acting)
        assert cancelled.status_code == 200
    assert await gateway.deliver() == 32
