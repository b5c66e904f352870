"""Streams on which nothing happens, by a clock that is moved by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from app.db.engine import opened_database
from app.events import log
from app.events.log import JobEvent
from tests.support.gateway import Gateway
from tests.support.rows import change
from tests.support.turns import turns

pytestmark = pytest.mark.either_database

WITHIN_S = 60


@pytest.mark.parametrize("path", ["/v1/events", "/v1/jobs/{id}/events"])
async def test_a_stream_beats_each_15_seconds_and_asks_its_client_back_after_an_hour(
    gateway: Gateway, path: str
) -> None:
    job = await gateway.submit()
    async with asyncio.timeout(WITHIN_S), overheard(gateway) as (client, told):
        reading = asyncio.ensure_future(client.get(path.format(id=job["id"])))
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


async def test_all_pages_of_what_was_missed_come_without_further_news(
    gateway: Gateway, database_url: str
) -> None:
    job, many = await gateway.submit(), 350
    change(database_url, "UPDATE jobs SET event_seq = :many", many=many)
    events = [
        JobEvent(job_id=job["id"], seq=seq, type="pending", at=gateway.clock.now())
        for seq in range(2, many + 1)
    ]
    async with opened_database(database_url) as database:
        await database.transact(lambda tx: log.append(tx, events))
    async with asyncio.timeout(WITHIN_S), overheard(gateway) as (client, told):
        reading = asyncio.ensure_future(client.get("/v1/events", headers={"Last-Event-ID": "0"}))
        seen = 0
        while seen < many:
            seen += (await told.get()).count(b"event: job.pending\n")
        reading.cancel()
        await asyncio.wait([reading])


@asynccontextmanager
async def overheard(
    gateway: Gateway,
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.Queue[bytes]]]:
    """A client that has its answers once they are whole, and what they say meanwhile."""
    told = asyncio.Queue[bytes]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Any) -> None:
            if message.get("body"):
                told.put_nowait(message["body"])
            await send(message)

        await gateway.app(scope, receive, tell)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://test",
        headers=gateway.http.headers,
    ) as client:
        yield client, told
