"""Client tokens under random use over two replicas: what they may take is never exceeded."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import settings

from app.core.clock import ManualClock
from tests.support.credentials import client_with_key, minted
from tests.support.gateway import SEEDANCE, Gateway, Sandbox, running
from tests.support.rows import look

PRICE_USD = Decimal("0.10")  # a second
STEPS = 12
SEQUENCES = settings().max_examples // 10
"""100 in CI's profile make 10, and 10,000 in the profile `long` make 1,000."""


@pytest.fixture
async def replicas(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[list[Gateway]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(running(database_url, sandbox=sandbox, clock=clock))
            for _ in range(2)
        ]


async def test_random_sequences_never_exceed_a_tokens_bounds(
    replicas: list[Gateway], database_url: str
) -> None:
    """After each burst what is held and used is counted from the jobs' rows, not by our sums."""
    first = replicas[0]
    line = {"model": SEEDANCE, "base_price_usd": str(PRICE_USD), "price_unit": "second"}
    await first.admin.put("/v1/admin/prices", json={"prices": [line]})
    maker = await client_with_key(first)
    refusals = 0
    for seed in range(SEQUENCES):
        chance = random.Random(seed)
        max_jobs = chance.choice([None, 1, 3, 5])
        max_usd = chance.choice([None, "0.35", "0.80", "1.50"])
        made = await minted(maker, max_jobs=max_jobs, max_cost_usd=max_usd)
        clients = [replica.client_with(made["token"]) for replica in replicas]
        refused = await _play(replicas, clients, chance)
        mine = look(
            database_url,
            "SELECT price_micro_usd FROM jobs"
            f" WHERE token_id = '{made['id']}' AND cost_state <> 'released'",
        )
        cost = sum((Decimal(row.price_micro_usd) for row in mine), Decimal(0)) / 1_000_000
        refusals += len(refused)
        assert max_jobs is None or len(mine) <= max_jobs, seed
        assert max_usd is None or cost <= Decimal(max_usd), seed
        if max_jobs is max_usd is None:
            assert not refused, seed
    assert refusals > SEQUENCES, "the bounds were hardly ever met"
    violations = (await first.admin.get("/v1/admin/invariants")).json()
    assert violations == {"ok": True, "violations": []}


async def _play(
    replicas: list[Gateway], clients: list[httpx.AsyncClient], chance: random.Random
) -> list[dict[str, Any]]:
    """Submit in bursts on both replicas, cancel, repeat keys; returns the refusals."""
    refused: list[dict[str, Any]] = []
    waiting: list[str] = []
    for step in range(STEPS // 3):
        key = {"Idempotency-Key": f"{clients[0].headers['Authorization'][-9:]}-{step}"}
        body = replicas[0].body(duration=chance.choice([2, 3, 5]))
        calls = [chance.choice(clients).post("/v1/jobs", json=body, headers=key) for _ in range(2)]
        calls += [
            chance.choice(clients).post(
                "/v1/jobs", json=replicas[0].body(duration=chance.choice([2, 3, 5]))
            )
            for _ in range(chance.randrange(1, 4))
        ]
        for answer in await asyncio.gather(*calls):
            body = answer.json()
            if answer.status_code in (200, 202):
                waiting.append(body["id"])
            else:
                assert (answer.status_code, body["code"]) == (429, "quota_exceeded"), body
                refused.append(body)
        chance.shuffle(waiting)
        freed, waiting = waiting[: len(waiting) // 2], waiting[len(waiting) // 2 :]
        for job_id in set(freed):
            await chance.choice(clients).post(f"/v1/jobs/{job_id}/cancel")
    return refused
