"""Streams on several processes: news from another replica, lost notices, and an orderly end."""

import asyncio
import resource
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from app.core.clock import SystemClock
from app.sandbox import SandboxConfig, running_sandbox
from app.server import running_gateway
from tests.support.gateway import TOKEN, Gateway
from tests.support.keys import make_key
from tests.support.processes import Server, gateway_process
from tests.support.served import Served, serving, settings_of
from tests.support.sse import stream

STREAMS = 1000
TOGETHER = 50
EXITS_WITHIN_S = 60  # alone on a machine it is a second; a busy one is no fault
STUCK = "sandbox:stuck-in-queue"


@pytest.fixture
async def gateway(shared_database: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(shared_database, tmp_path) as one:
        yield one


async def test_news_of_another_replica_come_even_when_its_notices_do_not(
    gateway: Served, shared_database: str
) -> None:
    settings = settings_of(shared_database, upstream_url="http://127.0.0.1:9")
    async with (
        running_gateway(settings) as url,
        httpx.AsyncClient(base_url=url, headers=gateway.http.headers, timeout=60) as other,
        stream(other, "/v1/events") as live,
    ):
        job = (await gateway.submit(STUCK)).json()
        first = await live.next()
        assert first is not None
        assert (first.event, first.data["id"]) == ("job.pending", job["id"])
        async with stream(other, f"/v1/jobs/{job['id']}/events") as following:
            answer = await gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
            assert answer.is_success
            assert (await following.rest())[-1].event == "job.cancelled"
        with psycopg.connect(shared_database, autocommit=True) as connection:
            cut = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            ).fetchone()
            assert cut == (2,)
        later = (await gateway.submit(STUCK)).json()
        async with asyncio.timeout(60):
            while (event := await live.next()) and event.data["id"] != later["id"]:
                pass
        assert event is not None


async def test_a_stream_ends_with_a_token_or_a_key_that_another_replica_ends(
    gateway: Served, shared_database: str
) -> None:
    settings = settings_of(shared_database, upstream_url="http://127.0.0.1:9")
    mint = {"user": "alice", "scopes": ["jobs:read", "tokens"]}
    job = (await gateway.submit(STUCK)).json()
    async with running_gateway(settings) as url, gateway.admin() as admin:
        key = (await admin.post("/v1/admin/keys", json=mint)).json()
        async with (
            gateway.client(key["key"]) as http,
            httpx.AsyncClient(base_url=url, timeout=60) as browser,
        ):
            tokens = [
                (await http.post("/v1/client-tokens", json={"job": job["id"]})).json()
                for _ in range(2)
            ]
            links = [token["urls"]["events"].removeprefix(gateway.url) for token in tokens]
            async with stream(browser, links[0]) as first, stream(browser, links[1]) as second:
                for live in (first, second):
                    assert await live.next() is not None
                await http.delete(f"/v1/client-tokens/{tokens[0]['id']}")
                await first.rest()
                assert not (await browser.get(links[0])).is_success
                await admin.delete(f"/v1/admin/keys/{key['id']}")
                await second.rest()
                assert not (await browser.get(links[1])).is_success


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    more = {"GATEWAY_MAX_STREAMS_PER_USER": str(STREAMS + 1)}
    async with (
        running_sandbox(SandboxConfig(directory=tmp_path / "sandbox", token=TOKEN)) as sandbox_url,
        gateway_process(tmp_path / "gateway", upstream_url=sandbox_url, **more) as gateway,
    ):
        await gateway.ready()
        yield gateway
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_stop_ends_a_thousand_streams_and_waits_and_asks_them_back(server: Server) -> None:
    key = await make_key(f"sqlite:///{server.folder / 'gateway.db'}")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as http:
        job = (await http.post("/v1/jobs", json=Gateway.body(STUCK))).json()
        path = f"/v1/jobs/{job['id']}"
        while (await http.get(path)).json()["status"] != "in_queue":
            await SystemClock().sleep(timedelta(milliseconds=50))
        request = f"GET {path}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer"
        lines = []
        for _ in range(STREAMS // TOGETHER):
            some = [
                await asyncio.open_connection("127.0.0.1", server.port) for _ in range(TOGETHER)
            ]
            for _, writer in some:
                writer.write(f"{request} {key}\r\n\r\n".encode())
            for reader, _ in some:
                await reader.readuntil(b"event: job.in_queue")
            lines += some

        async def wait_long() -> httpx.Response:
            """Wait in the last place; the looks for it below take it too, for a moment."""
            while (answer := await http.get(path, headers={"Prefer": "wait=60"})).is_error:
                pass
            return answer

        waiting = asyncio.ensure_future(wait_long())
        while not (await http.get(path, headers={"Prefer": "wait=0"})).is_error:
            pass
        assert await server.stop() < EXITS_WITHIN_S
        answer = await waiting
        assert (answer.status_code, answer.json()["status"]) == (200, "in_queue")
        rest = [await reader.read() for reader, _ in lines]
        for _, writer in lines:
            writer.close()
    assert all(b": reconnect, please\nretry: " in text for text in rest)
    assert all(text.endswith(b"0\r\n\r\n") for text in rest)
    moments = {text.split(b"retry: ")[1].split(b"\n")[0] for text in rest}
    assert len(moments) > STREAMS / 10
