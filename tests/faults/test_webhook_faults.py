"""Deliveries when processes die, rivals claim, and transactions roll back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.db.engine import open_database
from app.db.users import lock_user
from app.events.log import JobEvent
from app.jobs.announce import announce
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.receiver import Receiver, receiving, status
from tests.support.rows import change, rows
from tests.support.webhooks import ENDPOINTS, LOOPBACK, deliveries, make

pytestmark = pytest.mark.either_database


@pytest.fixture
async def gateway(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[Gateway]:
    """Open a gateway whose operator lets webhooks reach this machine."""
    async with running(
        database_url, sandbox=sandbox, clock=clock, webhook_networks=[LOOPBACK]
    ) as running_one:
        yield running_one


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


async def test_who_dies_between_claim_and_outcome_is_followed_by_another(
    gateway: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock, receiver: Receiver
) -> None:
    endpoint = await make(gateway.http, receiver.url)
    job = await gateway.follow(await gateway.submit("sandbox:instant"))
    deliverer = gateway.workers.deliverer
    [(lease, seen)] = await deliverer.claim(10)
    answer = await deliverer.attempt(lease, seen)
    assert answer is not None
    assert len(receiver.messages) == 1
    # While it is being sent, that is what it is asked for.
    again = f"{ENDPOINTS}/{endpoint['id']}/deliveries/{lease.id}/redeliver"
    assert (await gateway.http.post(again)).status_code == 202

    async with running(
        database_url, sandbox=sandbox, clock=clock, webhook_networks=[LOOPBACK]
    ) as second:
        assert await second.deliver() == 0
        second.wait(31)
        assert await second.deliver() == 1
        first, again = receiver.messages
        assert (first.id, first.payload) == (again.id, again.payload)
        assert again.payload["data"]["id"] == job["id"]

        gone = replace(answer, status_code=410, error="status")
        outcome = deliverer._outcome(lease, gone)  # noqa: SLF001 - the dead one wakes
        assert await deliverer._queue.record(outcome) is False  # noqa: SLF001
        (delivery,) = await deliveries(gateway, endpoint)
        assert (delivery["state"], delivery["attempts_made"]) == ("delivered", 1)
        read = (await gateway.http.get(f"{ENDPOINTS}/{endpoint['id']}")).json()
        assert read["disabled"] is False, "what does not count says nothing of the endpoint"


async def test_a_process_that_starts_alone_sends_at_once_what_a_dead_one_held(
    gateway: Gateway, receiver: Receiver
) -> None:
    await make(gateway.http, receiver.url)
    await gateway.follow(await gateway.submit("sandbox:instant"))
    assert len(await gateway.workers.deliverer.claim(10)) == 1
    assert await gateway.deliver() == 0
    await gateway.app.state.parts.free_leases()
    assert await gateway.deliver() == 1
    await gateway.app.state.parts.free_leases()
    assert await gateway.deliver() == 0, "what was delivered is held by nobody"


async def test_rivals_send_each_message_once(
    gateway: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock, receiver: Receiver
) -> None:
    endpoint = await make(gateway.http, receiver.url)
    for _ in range(40):
        await gateway.http.post(f"{ENDPOINTS}/{endpoint['id']}/test")
    async with AsyncExitStack() as stack:
        rivals = [gateway] + [
            await stack.enter_async_context(
                running(database_url, sandbox=sandbox, clock=clock, webhook_networks=[LOOPBACK])
            )
            for _ in range(2)
        ]
        for _ in range(3):
            await asyncio.gather(*(rival.deliver() for rival in rivals for _ in range(2)))
    counted = Counter(message.id for message in receiver.messages)
    assert len(counted) == 40
    assert set(counted.values()) == {1}
    assert {each["state"] for each in await deliveries(gateway, endpoint)} == {"delivered"}


async def test_what_is_rolled_back_is_never_told(
    gateway: Gateway, database_url: str, receiver: Receiver
) -> None:
    endpoint = await make(gateway.http, receiver.url)
    job = await gateway.submit()
    event = JobEvent(job_id=job["id"], seq=2, type="completed", at=gateway.clock.now())
    database = open_database(database_url)

    async def work(tx: AsyncConnection) -> None:
        assert await announce(tx, [event]) is True
        raise LookupError("something after it fails")

    with pytest.raises(LookupError):
        await database.transact(work)
    await database.close()
    assert await gateway.deliver() == 0
    assert await deliveries(gateway, endpoint) == []


async def test_without_its_secret_nothing_is_sent_and_rotation_mends_it(
    gateway: Gateway, database_url: str, receiver: Receiver
) -> None:
    endpoint = await make(gateway.http, receiver.url)
    await gateway.http.get("/v1/webhook-secret")
    for table in ("webhook_endpoints", "webhook_secrets"):
        change(database_url, f"UPDATE {table} SET secret = 'sealed by a key that is gone'")
    url = f"{ENDPOINTS}/{endpoint['id']}"
    await gateway.http.post(f"{url}/test")
    with capture_logs() as logs:
        assert await gateway.deliver() == 1
    assert receiver.messages == []
    told = [log["user_id"] for log in logs if log["event"] == "webhook.secret_unreadable"]
    assert told == ["alice"]
    (delivery,) = await deliveries(gateway, endpoint)
    assert delivery["attempts"][0]["error"] == "no_secret"
    assert (await gateway.http.get(f"{ENDPOINTS}/{endpoint['id']}")).json()["failing_since"] is None
    unreadable = await gateway.http.get("/v1/webhook-secret")
    assert (unreadable.status_code, unreadable.json()["code"]) == (409, "secret_unreadable")
    assert (await gateway.http.post("/v1/webhook-secret/rotate")).status_code == 200
    assert (await gateway.http.get("/v1/webhook-secret")).status_code == 200

    rotated = (await gateway.http.post(f"{url}/rotate")).json()
    gateway.wait(6)
    assert await gateway.deliver() == 1
    assert receiver.last.is_signed_with(rotated["secret"])


async def test_two_who_rotate_a_secret_at_once_both_hold_one_that_signs(
    gateway: Gateway, database_url: str, receiver: Receiver
) -> None:
    async def rotate_twice(tx: AsyncConnection) -> asyncio.Future[list[httpx.Response]]:
        await lock_user(tx, "alice")
        rotate = "/v1/webhook-secret/rotate"
        rotating = asyncio.gather(*(gateway.http.post(rotate) for _ in range(2)))
        await asyncio.wait([rotating], timeout=0.3)
        return rotating

    database = open_database(database_url)
    rotated = await (await database.transact(rotate_twice))
    await database.close()
    secrets = {answer.json()["secret"] for answer in rotated}
    assert (await gateway.http.get("/v1/webhook-secret")).json()["secret"] in secrets
    body = gateway.body("sandbox:instant") | {"webhook_url": receiver.url}
    await gateway.follow((await gateway.http.post("/v1/jobs", json=body)).json())
    assert await gateway.deliver() == 1
    assert all(receiver.last.is_signed_with(secret) for secret in secrets)


async def test_what_cannot_be_rendered_climbs_the_ladder_and_speaks_against_no_endpoint(
    gateway: Gateway, database_url: str, receiver: Receiver
) -> None:
    endpoint = await make(gateway.http, receiver.url)
    await gateway.follow(await gateway.submit("sandbox:fail"))
    change(database_url, "UPDATE jobs SET error = '{}'")
    for attempts, wait in enumerate((0, 6, 331), start=1):
        gateway.wait(wait)
        assert await gateway.deliver() == 1
        (delivery,) = await deliveries(gateway, endpoint)
        assert (delivery["state"], delivery["attempts_made"]) == ("pending", attempts)
        assert delivery["attempts"][-1]["error"] == "internal"
        assert await gateway.deliver() == 0
    read = (await gateway.http.get(f"{ENDPOINTS}/{endpoint['id']}")).json()
    assert read["failing_since"] is None
    change(database_url, """UPDATE jobs SET error = '{"code": "c", "message": "m"}'""")
    gateway.wait(2000)
    assert await gateway.deliver() == 1
    assert receiver.last.payload["data"]["error"] == {"code": "c", "message": "m"}


async def test_what_is_over_can_be_pruned_and_what_is_not_cannot(
    gateway: Gateway, database_url: str, receiver: Receiver
) -> None:
    receiver.answers(status(200, b"the-receivers-words"), status(500))
    endpoint = await make(gateway.http, receiver.url)
    for _ in range(2):
        await gateway.http.post(f"{ENDPOINTS}/{endpoint['id']}/test")
        assert await gateway.deliver() == 1
    retention = gateway.workers.retention
    gateway.wait(90 * 86_400)
    assert await retention.prune_deliveries() == 0
    gateway.wait(1)
    assert await retention.prune_deliveries() == 1
    assert [each["state"] for each in await deliveries(gateway, endpoint)] == ["pending"]
    assert "the-receivers-words" not in rows(database_url)
