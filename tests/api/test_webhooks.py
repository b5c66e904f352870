"""Webhooks by the calls that clients make, to receivers on real sockets."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from app.core.clock import ManualClock, SystemClock
from app.net.guard import guarded
from app.net.reach import Reach
from app.webhooks.sender import WebhookSender
from tests.support.answers import faults, problem
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.receiver import (
    Receiver,
    break_off,
    endless,
    hang_up,
    held,
    receiving,
    status,
)
from tests.support.rows import stored

pytestmark = pytest.mark.either_database

ENDPOINTS = "/v1/webhook-endpoints"
LOOPBACK = "127.0.0.0/8"
_LOOK = timedelta(milliseconds=10)


@pytest.fixture
def clock() -> ManualClock:
    """Begin now: the reference library verifies by the time of day."""
    return ManualClock(SystemClock().now())


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


async def service(gateway: Gateway, *scopes: str) -> httpx.AsyncClient:
    await gateway.admin.post("/v1/admin/users", json={"id": "shop"})
    made = await gateway.admin.post("/v1/admin/keys", json={"user": "shop", "scopes": scopes})
    return gateway.client_with(made.json()["key"])


async def make(
    client: httpx.AsyncClient, url: str, events: list[str] | None = None, **headers: str
) -> dict[str, Any]:
    body = {"url": url} if events is None else {"url": url, "events": events}
    answer = await client.post(ENDPOINTS, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"{ENDPOINTS}/{made['id']}"
    return made


async def deliveries(gateway: Gateway, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await gateway.http.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def submit(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def test_each_event_is_told_once_signed_and_true(
    gateway: Gateway, receiver: Receiver
) -> None:
    every = ["job.completed", "job.in_queue", "job.in_progress", "job.failed", "job.in_queue"]
    endpoint = await make(gateway.http, receiver.url, every)
    assert endpoint["events"] == every[:4]
    job = await gateway.follow(await gateway.submit())
    assert await gateway.deliver() == 3
    assert await gateway.deliver() == 0

    told = [message.verify(endpoint["secret"]) for message in receiver.messages]
    told.sort(key=lambda payload: payload["timestamp"])
    kinds = ["job.in_queue", "job.in_progress", "job.completed"]
    assert [payload["type"] for payload in told] == kinds
    assert [payload["data"]["status"] for payload in told] == [kind[4:] for kind in kinds]
    assert [payload["data"]["output"] is None for payload in told] == [True, True, False]
    assert [payload["data"]["cost"]["state"] for payload in told] == ["held", "held", "settled"]
    assert told[2] == {
        "type": "job.completed",
        "timestamp": job["finished_at"],
        "data": await gateway.read(job),
    }
    video = await gateway.client_with("none").get(told[2]["data"]["output"]["video"])
    assert video.status_code == 200
    first = receiver.messages[0].headers
    assert first["content-type"] == "application/json"
    assert first["accept-encoding"] == "identity"
    assert len({message.id for message in receiver.messages}) == 3


async def test_by_default_the_ends_are_told_and_each_to_its_owner_alone(
    gateway: Gateway, receiver: Receiver
) -> None:
    bob = await gateway.client_of("bob")
    await make(bob, receiver.url)
    endpoint = await make(gateway.http, receiver.url)
    assert endpoint["events"] == [
        *("job.completed", "job.failed", "job.cancelled", "job.submit_unknown"),
    ]
    failed = await gateway.follow(await gateway.submit("sandbox:instant sandbox:fail"))
    cancelled = await gateway.submit()
    await gateway.http.post(f"/v1/jobs/{cancelled['id']}/cancel")
    unknown = await gateway.submit("sandbox:lost-answer")
    await gateway.dispatch()
    assert await gateway.deliver() == 3
    told = {(m.payload["type"], m.payload["data"]["id"]) for m in receiver.messages}
    assert told == {
        ("job.failed", failed["id"]),
        ("job.cancelled", cancelled["id"]),
        ("job.submit_unknown", unknown["id"]),
    }
    await gateway.admin.post(f"/v1/admin/jobs/{unknown['id']}/settle")
    assert await gateway.deliver() == 1
    assert receiver.last.payload["type"] == "job.failed"


async def test_a_jobs_own_url_is_told_of_its_end_with_the_users_secret(
    gateway: Gateway, receiver: Receiver, database_url: str
) -> None:
    body = gateway.body("sandbox:instant") | {"webhook_url": receiver.url}
    job = await submit(gateway.http, body, **{"Idempotency-Key": "order-1"})
    assert "webhook_url" not in job
    other = body | {"webhook_url": f"{receiver.url}/2"}
    conflict = await gateway.http.post(
        "/v1/jobs", json=other, headers={"Idempotency-Key": "order-1"}
    )
    assert conflict.status_code == 409
    await gateway.follow(job)
    assert await gateway.deliver() == 1
    answer = await gateway.http.get("/v1/webhook-secret")
    assert answer.headers["Cache-Control"] == "no-store"
    secret = answer.json()["secret"]
    assert receiver.last.verify(secret)["data"]["id"] == job["id"]

    rotated = (await gateway.http.post("/v1/webhook-secret/rotate")).json()
    assert rotated["previous_secret_expires_at"] is not None
    now = (await gateway.http.get("/v1/webhook-secret")).json()
    assert now == rotated
    assert now["secret"] not in stored(database_url)
    shown = (await gateway.admin.get("/v1/admin/deliveries?user=alice")).json()["data"]
    assert [(each["job"], each["endpoint"], each["host"]) for each in shown] == [
        (job["id"], None, "127.0.0.1")
    ]
    for others in ("user=bob", "state=pending", "endpoint=none"):
        answer = await gateway.admin.get(f"/v1/admin/deliveries?{others}")
        assert answer.json()["data"] == []
    again = await gateway.admin.post(f"/v1/admin/deliveries/{shown[0]['id']}/redeliver")
    assert again.status_code == 202
    assert await gateway.deliver() == 1
    assert {message.id for message in receiver.messages} == {shown[0]["id"]}
    for each in (secret, now["secret"]):
        assert receiver.last.verify(each)["type"] == "job.completed"
    (audited,) = await gateway.audited()
    assert (audited["action"], audited["target"]) == (
        "delivery.redeliver",
        f"delivery:{shown[0]['id']}",
    )
    assert audited["before"] == {"state": "delivered", "attempts": 1}
    last = (
        await gateway.http.post("/v1/webhook-secret/rotate", json={"overlap_seconds": 0})
    ).json()
    assert last["previous_secret_expires_at"] is None
    await gateway.admin.post(f"/v1/admin/deliveries/{shown[0]['id']}/redeliver")
    assert await gateway.deliver() == 1
    assert receiver.last.is_signed_with(last["secret"])
    assert not receiver.last.is_signed_with(now["secret"])


async def test_a_rotated_secret_overlaps_with_the_one_before(
    gateway: Gateway, receiver: Receiver
) -> None:
    endpoint = await make(gateway.http, receiver.url)
    url = f"{ENDPOINTS}/{endpoint['id']}"
    rotated = (await gateway.http.post(f"{url}/rotate", json={"overlap_seconds": 60})).json()
    assert rotated["secret"] != endpoint["secret"]
    assert (await gateway.http.post(f"{url}/test")).status_code == 202
    assert await gateway.deliver() == 1
    for secret in (endpoint["secret"], rotated["secret"]):
        assert receiver.last.verify(secret)["type"] == "webhook.test"
    gateway.wait(61)
    await gateway.http.post(f"{url}/test")
    assert await gateway.deliver() == 1
    assert receiver.last.is_signed_with(rotated["secret"])
    assert not receiver.last.is_signed_with(endpoint["secret"])
    assert "secret" not in (await gateway.http.get(url)).json()
    await gateway.http.post(f"{url}/rotate")
    last = (await gateway.http.post(f"{url}/rotate", json={"overlap_seconds": 0})).json()
    assert last["previous_secret_expires_at"] is None
    await gateway.http.post(f"{url}/test")
    assert await gateway.deliver() == 1
    assert receiver.last.headers["webhook-signature"].count(",") == 1
    assert receiver.last.is_signed_with(last["secret"])


async def test_a_failure_climbs_the_ladder_under_one_id_and_can_be_redelivered(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answers(status(500, b"no\0 " + b"x" * 3000))
    endpoint = await make(gateway.http, receiver.url)
    job = await gateway.follow(await gateway.submit("sandbox:instant"))
    ladder = [5, 300, 1800, 7200, 18000, 36000, 36000]
    for wait in ladder:
        assert await gateway.deliver() == 1
        gateway.wait(wait - 1)
        assert await gateway.deliver() == 0
        gateway.wait(wait * 0.1 + 1)
    assert await gateway.deliver() == 1
    (delivery,) = await deliveries(gateway, endpoint)
    assert (delivery["state"], delivery["attempts_made"]) == ("failed", 8)
    assert (delivery["job"], delivery["next_attempt_at"]) == (job["id"], None)
    assert {attempt["error"] for attempt in delivery["attempts"]} == {"status"}
    assert {attempt["status_code"] for attempt in delivery["attempts"]} == {500}
    assert {len(attempt["body"]) for attempt in delivery["attempts"]} == {1024}
    gateway.wait(10**6)
    assert await gateway.deliver() == 0

    # The endpoint has failed since its first attempt, and five days have passed.
    url = f"{ENDPOINTS}/{endpoint['id']}"
    answer = await gateway.http.post(f"{url}/deliveries/{delivery['id']}/redeliver")
    assert answer.status_code == 202
    assert await gateway.deliver() == 1
    receiver.answers(status(200))
    gateway.wait(6)
    assert await gateway.deliver() == 1, "it climbs from the first step again"
    (delivery,) = await deliveries(gateway, endpoint)
    assert (delivery["state"], delivery["attempts_made"]) == ("delivered", 10)
    assert {message.id for message in receiver.messages} == {delivery["id"]}
    assert receiver.last.is_signed_with(endpoint["secret"])
    read = (await gateway.http.get(url)).json()
    assert (read["disabled"], read["failing_since"]) == (False, None)
    for _ in range(11):
        await gateway.http.post(f"{url}/deliveries/{delivery['id']}/redeliver")
        assert await gateway.deliver() == 1
    (delivery,) = await deliveries(gateway, endpoint)
    shown = [attempt["status_code"] for attempt in delivery["attempts"]]
    assert (delivery["attempts_made"], shown) == (21, [500] * 8 + [200] * 12), "the latest twenty"


async def test_who_says_when_to_come_back_is_believed(gateway: Gateway, receiver: Receiver) -> None:
    endpoint = await make(gateway.http, receiver.url)
    now = gateway.clock.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    gateway.wait((midnight - now).total_seconds())
    day = f"{midnight:%a, %d %b %Y}"
    for reply, seconds in (
        (status(429, Retry_After=f"{day} 00:00:40 GMT"), 40),
        (status(503, Retry_After=f"{day} 00:01:30 -0000"), 90 - 41),
        (status(429, Retry_After="60"), 60),
        (status(503, Retry_After="99999999999999"), 36000),
        (status(503, Retry_After="soon"), 5),
        (status(503, Retry_After=f"Sun, 22 Nov {'9' * 20} 10:00:00 GMT"), 5),
        (status(500, Retry_After="60"), 5),
    ):
        receiver.answers(reply)
        await gateway.http.post(f"{ENDPOINTS}/{endpoint['id']}/test")
        assert await gateway.deliver() == 1
        last = (await deliveries(gateway, endpoint))[0]
        assert [attempt["error"] for attempt in last["attempts"]] == ["status"]
        gateway.wait(seconds - 1)
        assert await gateway.deliver() == 0
        receiver.answers(status(204))
        gateway.wait(2)
        assert await gateway.deliver() == 1


async def test_an_endpoint_that_is_gone_is_disabled_until_enabled(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answers(status(500), status(410))
    endpoint = await make(gateway.http, receiver.url)
    url = f"{ENDPOINTS}/{endpoint['id']}"
    await gateway.follow(await gateway.submit("sandbox:instant"))
    assert await gateway.deliver() == 1
    gateway.wait(6 * 86_400)
    assert await gateway.deliver() == 1
    read = (await gateway.http.get(url)).json()
    assert (read["disabled"], read["disabled_reason"]) == (True, "gone")
    (gone,) = await deliveries(gateway, endpoint)
    assert (gone["state"], gone["attempts"][1]["status_code"]) == ("failed", 410)
    (audited,) = await gateway.audited()
    assert (audited["actor"], audited["action"]) == ("system", "webhook_endpoint.disabled")
    assert audited["after"] == {"disabled_reason": "gone"}, "and not `failing` as well"

    await gateway.follow(await gateway.submit("sandbox:instant"))
    assert await gateway.deliver() == 0
    for refused in (
        await gateway.http.post(f"{url}/test"),
        await gateway.http.post(f"{url}/deliveries/{gone['id']}/redeliver"),
        await gateway.admin.post(f"/v1/admin/deliveries/{gone['id']}/redeliver"),
    ):
        assert (refused.status_code, problem(refused)["code"]) == (409, "endpoint_disabled")
    for change in ({"events": ["job.completed"]}, {"disabled": True}):
        assert (await gateway.http.patch(url, json=change)).json()["disabled_reason"] == "gone"
    receiver.answers(status(204))
    read = (await gateway.http.patch(url, json={"disabled": False})).json()
    assert (read["disabled"], read["disabled_reason"]) == (False, None)
    await gateway.http.post(f"{url}/deliveries/{gone['id']}/redeliver")
    assert await gateway.deliver() == 1
    assert (await deliveries(gateway, endpoint))[0]["state"] == "delivered"

    await gateway.http.post(f"{url}/test")
    await gateway.http.patch(url, json={"disabled": True})
    assert await gateway.deliver() == 1
    (last, _) = await deliveries(gateway, endpoint)
    assert (last["state"], last["attempts"][0]["error"]) == ("failed", "endpoint_disabled")
    assert len(receiver.messages) == 3


async def test_an_endpoint_can_move_and_ask_for_other_events(gateway: Gateway) -> None:
    there = "https://example.com/hook"
    url = f"{ENDPOINTS}/{(await make(gateway.http, there, ['job.failed']))['id']}"
    async with receiving() as elsewhere:
        moved = (await gateway.http.patch(url, json={"url": elsewhere.url})).json()
        assert (moved["url"], moved["events"]) == (elsewhere.url, ["job.failed"])
        asking = (await gateway.http.patch(url, json={"events": ["job.completed"]})).json()
        assert (asking["url"], asking["events"]) == (elsewhere.url, ["job.completed"])
        await gateway.follow(await gateway.submit("sandbox:instant"))
        assert await gateway.deliver() == 1
        assert elsewhere.last.payload["type"] == "job.completed"


async def test_an_endpoint_that_fails_for_days_is_disabled(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answers(status(500))
    endpoint = await make(gateway.http, receiver.url)
    url = f"{ENDPOINTS}/{endpoint['id']}"
    for _ in range(8):  # as often as a message is tried
        assert (await gateway.http.get(url)).json()["disabled_reason"] is None
        await gateway.http.post(f"{url}/test")
        assert await gateway.deliver() > 0
        gateway.wait(86_400)
    assert (await gateway.http.get(url)).json()["disabled_reason"] == "failing"
    read = (await gateway.http.patch(url, json={"disabled": False})).json()
    assert (read["disabled"], read["failing_since"]) == (False, None), "a clean record"


async def test_an_endpoint_that_was_sent_nothing_for_days_survives_a_failure(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answers(status(500))
    endpoint = await make(gateway.http, receiver.url)
    url = f"{ENDPOINTS}/{endpoint['id']}"
    await gateway.http.post(f"{url}/test")
    for _ in range(8):
        assert await gateway.deliver() == 1
        gateway.wait(40_000)
    gateway.wait(6 * 86_400)
    await gateway.http.post(f"{url}/test")
    assert await gateway.deliver() == 1
    receiver.answers(status(200))
    gateway.wait(6)
    assert await gateway.deliver() == 1
    read = (await gateway.http.get(url)).json()
    assert (read["disabled_reason"], read["failing_since"]) == (None, None)


async def test_what_is_done_to_one_endpoint_is_done_to_no_other(
    gateway: Gateway, receiver: Receiver
) -> None:
    bob = await gateway.client_of("bob")
    one, idle = [await make(gateway.http, receiver.url) for _ in range(2)]
    async with receiving(status(500)) as elsewhere:
        other = await make(bob, elsewhere.url)
        mine, spare, theirs = (f"{ENDPOINTS}/{each['id']}" for each in (one, idle, other))
        receiver.answers(status(500), status(204), status(410), status(204))
        await gateway.http.post(f"{mine}/test")
        await bob.post(f"{theirs}/test")
        assert await gateway.deliver() == 2
        failing = (await bob.get(theirs)).json()
        assert failing["failing_since"] is not None
        gateway.wait(6)
        assert await gateway.deliver() == 2
        assert (await gateway.http.get(mine)).json()["failing_since"] is None
        gone = (await gateway.http.post(f"{mine}/test")).json()
        assert await gateway.deliver() == 1
        assert (await gateway.http.get(mine)).json()["disabled_reason"] == "gone"

        await gateway.http.patch(mine, json={"disabled": False, "url": f"{receiver.url}/2"})
        await gateway.http.post(f"{mine}/rotate")
        await gateway.http.post(f"{mine}/deliveries/{gone['id']}/redeliver")
        assert await gateway.deliver() == 1
        assert (await gateway.http.delete(mine)).status_code == 204
        assert (await bob.get(theirs)).json() == failing
        assert (await gateway.http.get(spare)).json() | {"secret": idle["secret"]} == idle
        elsewhere.answers(status(204))
        gateway.wait(400)
        assert await gateway.deliver() == 1
        assert elsewhere.last.is_signed_with(other["secret"])


@pytest.mark.parametrize(
    ("reply", "code", "error"),
    [
        (status(302, Location="http://127.0.0.1:1/"), 302, "redirect"),
        (status(302, Location="mailto:nobody"), None, "unreachable"),
        (status(302, Location="http://a:b"), None, "unreachable"),
        (status(302, Location="http://xn--/"), None, "unreachable"),
        (status(302, Location=":https://["), None, "unreachable"),
        (status(404), 404, "status"),
        (status(503), 503, "status"),
        (hang_up, None, "unreachable"),
        (break_off, 200, None),
        (endless, 200, None),
    ],
)
async def test_what_receivers_do_is_one_attempt(
    gateway: Gateway, receiver: Receiver, reply: Any, code: int | None, error: str | None
) -> None:
    receiver.answers(reply)
    endpoint = await make(gateway.http, receiver.url)
    await gateway.http.post(f"{ENDPOINTS}/{endpoint['id']}/test")
    assert await gateway.deliver() == 1
    (delivery,) = await deliveries(gateway, endpoint)
    (attempt,) = delivery["attempts"]
    assert (attempt["status_code"], attempt["error"]) == (code, error)
    assert delivery["state"] == ("pending" if error else "delivered")
    assert len(attempt["body"] or "") <= 1024


async def test_who_never_answers_has_run_out_of_time(receiver: Receiver) -> None:
    never = asyncio.Event()
    receiver.answers(held(never))
    here = Reach(networks=(ip_network(LOOPBACK),))
    async with guarded(deadline=timedelta(seconds=0.2), reach=here) as client:
        sender = WebhookSender(client=client, clock=SystemClock())
        answer = await sender.post(receiver.url, body="{}", headers={})
    never.set()
    assert (answer.status_code, answer.error) == (None, "timeout")


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
    shop = await service(gateway, "jobs:write", "act_as")
    for number in range(40):
        acting = {"X-Gateway-User": f"u{number}"}
        job = await submit(shop, gateway.body() | {"webhook_url": receiver.url}, **acting)
        cancelled = await shop.post(f"/v1/jobs/{job['id']}/cancel", headers=acting)
        assert cancelled.status_code == 200
    assert await gateway.deliver() == 32


async def test_jobs_that_are_told_of_together_are_each_signed_for_their_own_user(
    gateway: Gateway, receiver: Receiver
) -> None:
    clients = [gateway.http, await gateway.client_of("bob")]
    body = gateway.body() | {"webhook_url": receiver.url}
    jobs = [await submit(client, body) for client in clients]
    for client, job in zip(clients, jobs, strict=True):
        await client.post(f"/v1/jobs/{job['id']}/cancel")
    deliverer = gateway.workers.deliverer
    pieces = await deliverer.claim(2)
    assert len(pieces) == 2, "what one user's receiver holds is not taken from another's"
    for piece in pieces:
        await deliverer.deliver(piece)
    for client, job in zip(clients, jobs, strict=True):
        secret = (await client.get("/v1/webhook-secret")).json()["secret"]
        signed = [message for message in receiver.messages if message.is_signed_with(secret)]
        assert [message.payload["data"]["id"] for message in signed] == [job["id"]]


async def test_messages_that_are_taken_together_end_each_by_itself(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answers(status(204), status(500))
    endpoint = await make(gateway.http, receiver.url)
    for _ in range(2):
        await gateway.http.post(f"{ENDPOINTS}/{endpoint['id']}/test")
    deliverer = gateway.workers.deliverer
    for piece in await deliverer.claim(4):
        await deliverer.deliver(piece)
    ended = [(each["state"], each["attempts_made"]) for each in await deliveries(gateway, endpoint)]
    assert ended == [("pending", 1), ("delivered", 1)]


async def test_a_service_is_told_of_its_users_jobs_by_name(
    gateway: Gateway, receiver: Receiver
) -> None:
    scopes = ["jobs:read", "jobs:write", "webhooks", "act_as"]
    shop, acting = await service(gateway, *scopes), {"X-Gateway-User": "u1"}
    endpoint = await make(shop, receiver.url)
    body = gateway.body("sandbox:instant") | {"webhook_url": f"{receiver.server.url}/own"}
    job = await submit(shop, body, **acting)
    while not (await shop.get(f"/v1/jobs/{job['id']}", headers=acting)).json()["finished_at"]:
        await gateway.dispatch()
        await gateway.poll()
        gateway.wait(1)
    assert await gateway.deliver() == 2
    secret = (await shop.get("/v1/webhook-secret")).json()["secret"]
    assert (await shop.get("/v1/webhook-secret", headers=acting)).json()["secret"] == secret
    by_id = {message.headers["webhook-id"]: message for message in receiver.messages}
    assert len(by_id) == 2
    (own,) = [m for m in by_id.values() if m.is_signed_with(secret)]
    (to_service,) = [m for m in by_id.values() if m.is_signed_with(endpoint["secret"])]
    assert to_service.payload["data"]["user"] == own.payload["data"]["user"] == "shop/u1"
    assert own.payload["data"]["id"] == to_service.payload["data"]["id"] == job["id"]

    made = await gateway.admin.post(
        "/v1/admin/keys", json={"user": "shop/u1", "scopes": scopes[:3]}
    )
    users_own = gateway.client_with(made.json()["key"])
    for call in (users_own.get("/v1/webhook-secret"), users_own.post("/v1/webhook-secret/rotate")):
        refused = await call
        assert (refused.status_code, problem(refused)["code"]) == (403, "secret_of_service")


@pytest.mark.parametrize("disabled", ["shop", "shop/u1"])
async def test_nothing_is_told_of_a_user_once_it_or_its_service_is_disabled(
    gateway: Gateway, receiver: Receiver, disabled: str
) -> None:
    shop, acting = await service(gateway, "jobs:write", "act_as"), {"X-Gateway-User": "u1"}
    await submit(shop, gateway.body() | {"webhook_url": receiver.url}, **acting)
    await gateway.admin.patch(f"/v1/admin/users/{disabled}", json={"disabled": True})
    for _ in range(60):
        await gateway.dispatch()
        await gateway.poll()
        gateway.wait(1)
    assert await gateway.deliver() == 1
    assert receiver.messages == []
    (delivery,) = (await gateway.admin.get("/v1/admin/deliveries?state=failed")).json()["data"]
    assert delivery["attempts"][0]["error"] == "user_disabled"


async def test_what_a_disabled_user_is_not_told_speaks_against_no_endpoint(
    gateway: Gateway, receiver: Receiver
) -> None:
    url = f"{ENDPOINTS}/{(await make(gateway.http, receiver.url))['id']}"
    await gateway.http.post(f"{url}/test")
    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": True})
    assert await gateway.deliver() == 1
    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": False})
    assert (await gateway.http.get(url)).json()["failing_since"] is None
    assert receiver.messages == []


@pytest.mark.sqlite_alone  # Postgres does it all elsewhere
async def test_an_endpoint_is_deleted_beside_the_event_loop(
    gateway: Gateway, receiver: Receiver
) -> None:
    """Its deliveries go with it, and of those there may be hundreds of thousands."""
    endpoint = await make(gateway.http, receiver.url)
    where: list[threading.Thread] = []

    def note(*executed: Any) -> None:
        if "DELETE FROM webhook_endpoints" in executed[2]:
            where.append(threading.current_thread())

    for engine in gateway.keys._database.watch():  # noqa: SLF001 - all share one
        event.listen(engine, "before_cursor_execute", note)
    assert (await gateway.http.delete(f"{ENDPOINTS}/{endpoint['id']}")).status_code == 204
    (aside,) = where
    assert aside is not threading.current_thread()


async def test_what_is_deleted_is_told_no_more(
    gateway: Gateway, receiver: Receiver, database_url: str
) -> None:
    receiver.answers(status(500, b"what-the-receiver-said"))
    endpoint = await make(gateway.http, receiver.url)
    job = await gateway.follow(await gateway.submit("sandbox:instant"))
    assert await gateway.deliver() == 1
    assert "what-the-receiver-said" in stored(database_url)
    gateway.wait(6)
    deliverer = gateway.workers.deliverer
    [(lease, _)] = await deliverer.claim(1)
    assert (await gateway.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    await deliverer.deliver((lease, None))  # as if erased before the job was read
    assert len(receiver.messages) == 1
    assert await deliveries(gateway, endpoint) == []
    url = f"{ENDPOINTS}/{endpoint['id']}"
    await gateway.http.post(f"{url}/test")
    assert (await gateway.http.delete(url)).status_code == 204
    assert (await gateway.http.delete(url)).status_code == 404
    await make(gateway.http, receiver.url)
    await gateway.http.get("/v1/webhook-secret")
    assert (await gateway.admin.delete("/v1/admin/users/alice")).status_code == 204
    gateway.wait(10)
    assert await gateway.deliver() == 0
    assert len(receiver.messages) == 1


async def test_endpoints_and_deliveries_are_their_owners_alone(
    gateway: Gateway, receiver: Receiver
) -> None:
    endpoint = await make(gateway.http, receiver.url)
    other = await make(gateway.http, receiver.url)
    url = f"{ENDPOINTS}/{endpoint['id']}"
    delivery = (await gateway.http.post(f"{url}/test")).json()
    bob = await gateway.client_of("bob")
    answers = [
        await bob.get(url),
        await bob.patch(url, json={"disabled": True}),
        await bob.delete(url),
        await bob.post(f"{url}/rotate"),
        await bob.post(f"{url}/test"),
        await bob.get(f"{url}/deliveries"),
        await bob.post(f"{url}/deliveries/{delivery['id']}/redeliver"),
        await gateway.http.get(f"{ENDPOINTS}/none%00such"),
        await gateway.http.delete(f"{ENDPOINTS}/none%00such"),
    ]
    assert {problem(each)["code"] for each in answers} == {"endpoint_not_found"}
    assert (await bob.get(ENDPOINTS)).json()["data"] == []
    wrong = f"{ENDPOINTS}/{other['id']}/deliveries"
    for unknown in (delivery["id"], "none%00such"):
        answer = await gateway.http.post(f"{wrong}/{unknown}/redeliver")
        assert problem(answer)["code"] == "delivery_not_found"
    made = await gateway.admin.post("/v1/admin/keys", json={"user": "alice", "scopes": ["files"]})
    scopeless = gateway.client_with(made.json()["key"])
    assert (await scopeless.get(ENDPOINTS)).status_code == 403


async def test_lists_go_page_by_page_and_twenty_endpoints_are_enough(
    gateway: Gateway, receiver: Receiver
) -> None:
    answers = await asyncio.gather(
        *(gateway.http.post(ENDPOINTS, json={"url": receiver.url}) for _ in range(25))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 20 + [409] * 5
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert problem(refused)["code"] == "too_many_endpoints"
    made = sorted((a.json()["id"] for a in answers if a.status_code == 201), reverse=True)
    page = (await gateway.http.get(f"{ENDPOINTS}?limit=15")).json()
    rest = (await gateway.http.get(f"{ENDPOINTS}?limit=15&cursor={page['next_cursor']}")).json()
    assert [each["id"] for each in page["data"] + rest["data"]] == made
    assert rest["next_cursor"] is None
    url = f"{ENDPOINTS}/{made[0]}"
    sent = [(await gateway.http.post(f"{url}/test")).json()["id"] for _ in range(3)]
    page = (await gateway.http.get(f"{url}/deliveries?limit=2")).json()
    assert [each["id"] for each in page["data"]] == sent[:0:-1]
    bad = await gateway.http.get(f"{url}/deliveries?cursor=xyz")
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid_parameter")


HOSTILE = [
    *("", "ftp://example.com/", "//example.com", "https://", "https://user:pw@example.com/"),
    *("http://169.254.169.254/latest", "https://[fe80::1]/", "http://metadata.google.internal/"),
    *("https://example.com/#part", "https://exa mple.com/", "http://10.1.2.3/", "https://[::1]/"),
    *("https://example.com\\@127.0.0.1/", "https://example.com/" + "a" * 2048),
]


async def test_a_url_that_leads_nowhere_good_is_refused_by_name(gateway: Gateway) -> None:
    there = await make(gateway.http, "https://example.com/")
    for url in HOSTILE:
        made = await gateway.http.post(ENDPOINTS, json={"url": url})
        assert [pointer for pointer, _ in faults(made)] == ["/url"]
        moved = await gateway.http.patch(f"{ENDPOINTS}/{there['id']}", json={"url": url})
        assert faults(moved) == faults(made)
        body = gateway.body() | {"webhook_url": url}
        refused = await gateway.http.post("/v1/jobs", json=body)
        assert [pointer for pointer, _ in faults(refused)] == ["/webhook_url"]
        assert not url or url not in made.text + moved.text + refused.text
        checked = await gateway.http.post("/v1/jobs/validate", json=body)
        if checked.status_code == 200:
            assert checked.json()["valid"] is False
            assert [e["pointer"] for e in checked.json()["errors"]] == ["/webhook_url"]


async def test_a_wrong_endpoint_is_refused_by_field(gateway: Gateway) -> None:
    good = {"url": "https://example.com"}
    for body, pointer in (
        ({"url": 1}, "/url"),
        (good | {"events": []}, "/events"),
        (good | {"events": ["job.pending"]}, "/events/0"),
        (good | {"events": "job.failed"}, "/events"),
        (good | {"secret": "mine"}, "/secret"),
        ({}, "/url"),
    ):
        answer = await gateway.http.post(ENDPOINTS, json=body)
        assert [found for found, _ in faults(answer)] == [pointer]


async def test_names_that_do_not_resolve_and_such_that_may_not_read_the_same(
    database_url: str, sandbox: Sandbox, clock: ManualClock, receiver: Receiver
) -> None:
    """Judged again when they are looked up, whatever was open when they were named."""
    async with running(
        database_url, sandbox=sandbox, clock=clock, webhook_networks=["10.0.0.0/8"]
    ) as gateway:
        words = set()
        for host in ("localhost", "no-such-name.invalid"):
            endpoint = await make(gateway.http, receiver.url.replace("127.0.0.1", host))
            await gateway.http.post(f"{ENDPOINTS}/{endpoint['id']}/test")
            assert await gateway.deliver() == 1
            ((delivery,)) = await deliveries(gateway, endpoint)
            words.add(delivery["attempts"][0]["error"])
        assert len(words) == 1
        assert receiver.server.connections == 0
