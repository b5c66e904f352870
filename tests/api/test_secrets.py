"""The RunComfy token and what clients send are nowhere but where they must be."""

import logging
from pathlib import Path

import httpx
import pytest

from tests.support.credentials import client_with_key
from tests.support.gateway import TOKEN, Gateway

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

    for answer in answers:
        assert TOKEN.encode() not in answer.content
        assert TOKEN not in str(answer.headers)
        assert gateway.sandbox.url not in answer.text if "json" in _type(answer) else True
    printed = capsys.readouterr()
    logs = caplog.text + printed.out + printed.err + repr([r.__dict__ for r in caplog.records])
    assert "job.accepted" in logs
    assert TOKEN not in logs
    assert "secret garden" not in logs
    assert gateway.http.headers["Authorization"].split("_")[-1] not in logs
    for path in _files(database_url):
        assert TOKEN.encode() not in path.read_bytes(), path


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
    """Give the files of an SQLite database, its log and what lies beside them; none on Postgres."""
    if not database_url.startswith("sqlite:"):
        return []
    folder = Path(database_url.removeprefix("sqlite:///")).parent
    return [path for path in folder.rglob("*") if path.is_file()]
