"""The RunComfy token and what clients send are nowhere but where they must be."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from app.core.clock import ManualClock
from tests.support.credentials import client_with_key
from tests.support.gateway import TOKEN, Gateway, Sandbox, running
from tests.support.wire_server import Line, answer, wire_server

ENDPOINTS = "/v1/webhook-endpoints"
LIVES = ["sandbox:instant", "sandbox:submit-400004", "sandbox:lost-answer", "sandbox:poll-500=1"]


async def test_the_token_and_the_prompt_reach_no_answer_no_log_and_no_file(
    gateway: Gateway,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    answers: list[httpx.Response] = []
    jobs = [await gateway.submit(f"a secret garden {words}") for words in LIVES]
    for _ in range(12):
        await gateway.dispatch()
        await gateway.poll()
        gateway.wait(2)
    for job in jobs:
        answers.append(await gateway.http.get(f"/v1/jobs/{job['id']}"))
        answers.append(await gateway.http.post(f"/v1/jobs/{job['id']}/cancel"))
        answers.append(await gateway.admin.get(f"/v1/admin/jobs/{job['id']}"))
        outputs = (await gateway.read(job))["urls"]["outputs"]
        answers += [await gateway.http.get(url) for url in outputs]
    answers.append(await gateway.http.get("/openapi.json"))
    answers.append(await gateway.admin.get("/v1/admin/audit"))

    for each in answers:
        assert TOKEN.encode() not in each.content
        assert TOKEN not in str(each.headers)
        assert gateway.sandbox.url not in each.text if "json" in _type(each) else True
    printed = capsys.readouterr()
    logs = caplog.text + printed.out + printed.err + repr([r.__dict__ for r in caplog.records])
    assert "job.accepted" in logs
    assert TOKEN not in logs
    assert "secret garden" not in logs
    assert gateway.http.headers["Authorization"].split("_", 2)[2] not in logs
    for path in _files(database_url):
        assert TOKEN.encode() not in path.read_bytes(), path


async def test_what_upstream_says_of_a_job_reaches_no_log(
    database_url: str, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may quote a part of the prompt, or a link without its scheme, which nobody finds in it."""
    words = "garden is not allowed, nor is files.example/a.png?signature=private"

    async def quote(line: Line) -> None:
        while True:
            call = (await line.request()).target.rpartition("/")[2]
            status = {"status": 500, "cancel": 409}.get(call, 200)
            body = {"request_id": "req-1", "error_code": 500001, "error_message": words}
            await line.send(answer(status, body))

    async with wire_server(quote) as server, httpx.AsyncClient(timeout=60) as http:
        upstream = Sandbox(url=server.url, http=http)
        async with running(database_url, sandbox=upstream, clock=clock) as gateway:
            job = await gateway.submit("a secret garden")
            await gateway.dispatch()
            gateway.wait(2)
            await gateway.poll()
            asked = asyncio.ensure_future(gateway.http.post(f"/v1/jobs/{job['id']}/cancel"))
            while not asked.done():
                await gateway.poll()
                gateway.wait(1)
            await gateway.workers.catalogue.run_once()
    logs = "".join(capsys.readouterr())
    for event in ("job.poll_failed", "job.cancel_failed", "catalogue.sync_failed"):
        assert event in logs
    assert "RunComfy answered 500 with the code 500001." in logs
    assert "garden" not in logs
    assert "private" not in logs


async def test_what_shows_a_secret_may_be_kept_by_no_cache(gateway: Gateway) -> None:
    made = await gateway.admin.post("/v1/admin/keys", json={"user": "alice", "name": "ci"})
    hook = await gateway.http.post(ENDPOINTS, json={"url": "https://example.com/hook"})
    maker = await client_with_key(gateway)
    answers = [
        made,
        await gateway.admin.post(f"/v1/admin/keys/{made.json()['id']}/rotate"),
        hook,
        await gateway.http.post(f"{ENDPOINTS}/{hook.json()['id']}/rotate"),
        await gateway.http.get("/v1/webhook-secret"),
        await gateway.http.post("/v1/webhook-secret/rotate"),
        await maker.post("/v1/client-tokens", json={"scopes": ["jobs:read"]}),
    ]
    assert all(answer.is_success for answer in answers)
    assert [answer.headers.get("Cache-Control") for answer in answers] == ["no-store"] * 7


def _type(answer: httpx.Response) -> str:
    return answer.headers.get("Content-Type", "")


def _files(database_url: str) -> list[Path]:
    """Return the files of an SQLite database, its log and those beside it; none on Postgres."""
    if not database_url.startswith("sqlite:"):
        return []
    folder = Path(database_url.removeprefix("sqlite:///")).parent
    return [path for path in folder.rglob("*") if path.is_file()]
