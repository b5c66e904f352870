"""Endpoints: where they may lead, whose they are, and when they are disabled or deleted."""

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import event

from app.core.clock import ManualClock
from tests.support.answers import faults, problem
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.receiver import Receiver, receiving, status
from tests.support.rows import stored
from tests.support.webhooks import ENDPOINTS, deliveries, make

pytestmark = pytest.mark.either_database

HOSTILE = [
    *("", "ftp://example.com/", "//example.com", "https://", "https://user:pw@example.com/"),
    *("http://169.254.169.254/latest", "https://[fe80::1]/", "http://metadata.google.internal/"),
    *("https://example.com/#part", "https://exa mple.com/", "http://10.1.2.3/", "https://[::1]/"),
    *("https://example.com\\@127.0.0.1/", "https://example.com/" + "a" * 2048),
]


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


async def test_a_jobs_own_address_that_is_gone_is_tried_again(
    gateway: Gateway, receiver: Receiver
) -> None:
    """There is no endpoint to disable, and its job has but this one message."""
    receiver.answers(status(410), status(204))
    body = gateway.body("sandbox:instant") | {"webhook_url": receiver.url}
    await gateway.follow((await gateway.http.post("/v1/jobs", json=body)).json())
    assert await gateway.deliver() == 1
    gateway.wait(6)
    assert await gateway.deliver() == 1
    assert [message.id for message in receiver.messages] == [receiver.last.id] * 2


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
