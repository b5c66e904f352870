"""Three processes on one Postgres, and up to 500 callers at once: each limit is one for all."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from app.core.clock import SystemClock
from app.sandbox import SandboxConfig, running_sandbox
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE, TOKEN
from tests.support.processes import Server, gateway_process
from tests.support.zones import zone_at_noon

RIVALS = 500
FEWER = 40  # for limits that are counted just as `jobs_per_day` is
LIMITED = 10
MAX_IN_FLIGHT = 16
REFUSING = {
    "jobs_per_day": LIMITED,
    "jobs_per_month": LIMITED,
    "output_seconds_per_day": 2 * LIMITED,
    "output_seconds_per_month": 2 * LIMITED,
    "spend_usd_per_day": LIMITED,
    "spend_usd_per_month": LIMITED,
    "pending_jobs": LIMITED,
}
STUCK = "sandbox:queue=0 sandbox:stuck"
_LOOK = timedelta(milliseconds=100)


@pytest.fixture
async def upstream_url(tmp_path: Path) -> AsyncIterator[str]:
    config = SandboxConfig(directory=tmp_path / "sandbox", token=TOKEN, speed=10)
    async with running_sandbox(config) as url:
        yield url


@pytest.fixture
async def replicas(
    tmp_path: Path, upstream_url: str, shared_database: str
) -> AsyncIterator[list[Server]]:
    environment = {
        "GATEWAY_DATABASE_URL": shared_database,
        "GATEWAY_SECRET_KEY": "k" * 32,
        "GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN,
        "GATEWAY_MAX_IN_FLIGHT": str(MAX_IN_FLIGHT),
        "GATEWAY_LOG_LEVEL": "error",
    }
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                gateway_process(tmp_path / f"replica-{n}", upstream_url=upstream_url, **environment)
            )
            for n in range(3)
        ]
        await asyncio.gather(*(server.ready() for server in servers))
        yield servers


@pytest.fixture
async def operator(replicas: list[Server]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=replicas[0].url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=60
    ) as http:
        yield http


async def told(operator: httpx.AsyncClient, method: str, path: str, **body: Any) -> Any:
    answer = await operator.request(method, f"/v1/admin/{path}", json=body)
    assert answer.is_success, answer.text
    return answer.json()


async def key_of(operator: httpx.AsyncClient, user: str, **limits: int) -> str:
    amounts = {name: {"limit": limit} for name, limit in limits.items()}
    await told(operator, "POST", "users", id=user, plan="noon", limits=amounts)
    key: str = (await told(operator, "POST", "keys", user=user, name="test"))["key"]
    return key


async def rush(
    replicas: list[Server], key: str, *, prompt: str = "", rivals: int = RIVALS
) -> list[dict[str, Any]]:
    """Submit from every side at once; gives each answer's body with its `http` status."""
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {key}"},
        connector=aiohttp.TCPConnector(limit=RIVALS),
        timeout=aiohttp.ClientTimeout(total=200),
    ) as http:

        async def submit(n: int) -> dict[str, Any]:
            picture = "https://example.com/a.png"
            given = {"prompt": prompt, "first_frame_image_url": picture, "duration": 2}
            url = f"{replicas[n % len(replicas)].url}/v1/jobs"
            while True:
                async with http.post(url, json={"model": SEEDANCE, "input": given}) as answer:
                    # A machine that is busy with other tests may be late for its database.
                    if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                        return {**(await answer.json()), "http": answer.status}
                await SystemClock().sleep(timedelta(seconds=1))

        return await asyncio.gather(*(submit(n) for n in range(rivals)))


async def sent(upstream_url: str, prompt: str) -> int:
    """Count what upstream has; a stuck job never ends, so this is what is in flight there."""
    async with httpx.AsyncClient(base_url=upstream_url, timeout=60) as http:
        seen = (await http.get("/sandbox/requests")).json()["requests"]
    return sum(each["accepted"] and each["input"]["prompt"] == prompt for each in seen)


async def sent_at_rest(upstream_url: str, prompt: str, *, expected: int) -> int:
    """Wait until upstream has as many as expected, and a little longer for one too many."""
    async with asyncio.timeout(120):
        while await sent(upstream_url, prompt) < expected:
            await SystemClock().sleep(_LOOK)
    await SystemClock().sleep(_LOOK * 15)
    return await sent(upstream_url, prompt)


@pytest.mark.timeout(400)
async def test_no_limit_bends_under_rivals_on_three_replicas(
    replicas: list[Server], operator: httpx.AsyncClient, upstream_url: str
) -> None:
    price = {"model": SEEDANCE, "base_price_usd": "0.50", "price_unit": "second"}
    await told(operator, "PUT", "prices", prices=[price])
    await told(operator, "POST", "plans", name="noon", timezone=zone_at_noon())
    await told(operator, "PUT", "dispatch", paused=True)
    await SystemClock().sleep(timedelta(seconds=1))  # how old a price may be on a replica

    for name, limit in REFUSING.items():
        rivals = RIVALS if name == "jobs_per_day" else FEWER
        key = await key_of(operator, f"u-{name}", **{name: limit})
        answers = await rush(replicas, key, rivals=rivals)
        assert Counter(answer["http"] for answer in answers) == {
            202: LIMITED,
            429: rivals - LIMITED,
        }
        refusals = {(a["code"], a["limit"]) for a in answers if a["http"] == 429}
        assert refusals == {("quota_exceeded", name)}

    key = await key_of(operator, "u-rate", submits_per_minute=LIMITED)
    started = SystemClock().monotonic()
    answers = await rush(replicas, key)
    refilled = (SystemClock().monotonic() - started) * LIMITED / 60
    accepted = sum(answer["http"] == 202 for answer in answers)
    assert LIMITED <= accepted <= LIMITED + 1 + refilled
    assert {answer["http"] for answer in answers} == {202, 429}

    narrow = await key_of(operator, "u-narrow", concurrent_jobs=LIMITED)
    answers = await rush(replicas, narrow, prompt=f"narrow {STUCK}", rivals=FEWER)
    assert {answer["http"] for answer in answers} == {202}
    for name in (*REFUSING, "rate"):  # what waits of theirs is not to take the places
        await told(operator, "PATCH", f"users/u-{name}", limits={"concurrent_jobs": {"limit": 0}})
    await told(operator, "PUT", "dispatch", paused=False)
    assert await sent_at_rest(upstream_url, f"narrow {STUCK}", expected=LIMITED) == LIMITED

    wide = await key_of(operator, "u-wide")
    answers = await rush(replicas, wide, prompt=f"wide {STUCK}", rivals=FEWER)
    assert {answer["http"] for answer in answers} == {202}
    left = MAX_IN_FLIGHT - LIMITED
    assert await sent_at_rest(upstream_url, f"wide {STUCK}", expected=left) == left
    assert (await operator.get("/v1/admin/invariants")).json() == {"ok": True, "violations": []}
