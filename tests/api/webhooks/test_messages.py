"""What is told to whom, signed with what, and told again until it is heard."""

import asyncio
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from app.core.clock import SystemClock
from app.net.guard import guarded
from app.net.reach import Reach
from app.webhooks.sender import WebhookSender
from tests.support.answers import problem
from tests.support.credentials import client_with_key
from tests.support.gateway import Gateway
from tests.support.receiver import Receiver, break_off, endless, hang_up, held, status
from tests.support.rows import stored
from tests.support.webhooks import ENDPOINTS, LOOPBACK, deliveries, make, submit

pytestmark = pytest.mark.either_database


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
    shop, acting = await client_with_key(gateway, "shop", scopes=scopes), {"X-Gateway-User": "u1"}
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
    shop, acting = (
        await client_with_key(gateway, "shop", scopes=["jobs:write", "act_as"]),
        {"X-Gateway-User": "u1"},
    )
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
