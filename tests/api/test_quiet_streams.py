"""Streams on which nothing happens, by a clock that is moved by hand."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from tests.support.gateway import Gateway
from tests.support.turns import turns

pytestmark = pytest.mark.either_database

WITHIN_S = 60


@pytest.mark.parametrize("path", ["/v1/events", "/v1/jobs/{id}/events"])
async def test_a_stream_beats_each_15_seconds_and_asks_its_client_back_after_an_hour(
    gateway: Gateway, path: str
) -> None:
    told = asyncio.Queue[bytes]()

    async def overheard(scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Any) -> None:
            if message.get("body"):
                told.put_nowait(message["body"])
            await send(message)

        await gateway.app(scope, receive, tell)

    job = await gateway.submit()
    transport = httpx.ASGITransport(app=overheard)
    async with (
        asyncio.timeout(WITHIN_S),
        httpx.AsyncClient(transport=transport, headers=gateway.http.headers) as client,
    ):
        reading = asyncio.ensure_future(client.get(f"http://test{path.format(id=job['id'])}"))
        assert (await told.get()).startswith(b": the stream is open\n\n")
        for _ in range(2):
            gateway.wait(14)
            await turns()
            assert told.empty()
            gateway.wait(1)
            assert (await told.get()).startswith(b": heartbeat\n")
        gateway.wait(3600 - 30)
        assert (await told.get()).startswith(b": reconnect, please\nretry: ")
        assert (await reading).status_code == 200
