"""Streams and waits over a real socket: what happens to jobs, told as it happens."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.clock import SystemClock
from tests.support.answers import problem
from tests.support.gateway import Gateway
from tests.support.issuer import AUDIENCE, running_issuer
from tests.support.served import Served, serving
from tests.support.sse import Event, stream

pytestmark = pytest.mark.either_database

SLOW = "sandbox:queue=4 sandbox:slow=4"  # fifths of a second: the sandbox runs 20 times as fast
STUCK = "sandbox:stuck-in-queue"
WITHIN_S = 60


@pytest.fixture
async def gateway(database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(database_url, tmp_path, max_streams_per_user=3) as one:
        yield one


def events_of(job: dict[str, Any]) -> str:
    return f"/v1/jobs/{job['id']}/events"


def rising(events: list[Event]) -> bool:
    ids = [int(event.id) for event in events]
    return ids == sorted(set(ids))


def lasting(events: list[Event]) -> list[tuple[str, dict[str, Any]]]:
    """Leave out what is told as of now: an estimate of what is left."""
    return [(event.id, event.data | {"eta_seconds": None}) for event in events]


async def stuck(gateway: Served) -> dict[str, Any]:
    return await stuck_job_of(gateway.http)


async def stuck_job_of(http: httpx.AsyncClient) -> dict[str, Any]:
    """Submit a job that stays in RunComfy's queue, and wait until it is there."""
    job: dict[str, Any] = (await http.post("/v1/jobs", json=Gateway.body(STUCK))).json()
    async with asyncio.timeout(WITHIN_S):
        while job["status"] != "in_queue":
            answer = await http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=5"})
            job = answer.json()
    return job


async def test_a_job_is_followed_to_its_end_and_from_any_event_on(gateway: Served) -> None:
    job = (await gateway.submit(SLOW)).json()
    assert job["urls"]["events"] == f"{gateway.url}{events_of(job)}"
    async with (
        stream(gateway.http, events_of(job)) as first,
        stream(gateway.http, events_of(job), after="nonsense") as second,
    ):
        seen, twin = await asyncio.gather(first.rest(), second.rest())
    assert first.comments[0] == "the stream is open"
    assert first.answer.headers["cache-control"] == "no-store"
    for events in (seen, twin):
        assert rising(events)
        assert events[-1].event == "job.completed"
        assert all(event.event == f"job.{event.data['status']}" for event in events)
    read = (await gateway.http.get(f"/v1/jobs/{job['id']}")).json()
    assert seen[-1].data == read

    async with stream(gateway.http, events_of(job), after="0") as again:
        history = await again.rest()
    assert rising(history)
    assert [history[0].event, history[-1].event] == ["job.pending", "job.completed"]
    assert history[0].data["submitted_at"] is None
    assert all(event.data["output"] is None for event in history[:-1])
    for place, event in enumerate(history[:-1]):
        async with stream(gateway.http, events_of(job), after=event.id) as resumed:
            assert lasting(await resumed.rest()) == lasting(history[place + 1 :])
    over = await gateway.http.get(events_of(job), headers={"Last-Event-ID": history[-1].id})
    assert (over.status_code, over.content) == (204, b"")
    for fresh in (None, "999999", "9" * 30, "-1", ""):
        async with stream(gateway.http, events_of(job), after=fresh) as late:
            assert [event.event for event in await late.rest()] == ["job.completed"]


async def test_a_stream_is_its_owners_alone_and_only_read(gateway: Served) -> None:
    job = (await gateway.submit(SLOW)).json()
    async with gateway.client(await gateway.key_of("mallory")) as mallory:
        body = problem(await mallory.get(events_of(job)))
        assert (body["status"], body["code"]) == (404, "job_not_found")
    async with gateway.client("nobody") as nobody:
        for path in (events_of(job), "/v1/events"):
            head = await gateway.http.head(path)
            assert (head.status_code, head.headers["allow"]) == (405, "GET")
            assert (await nobody.get(path)).status_code == 401
    for path in (f"/v1/jobs/{'x' * 30}/events", "/v1/jobs/%00/events"):
        assert (await gateway.http.get(path)).status_code == 404
    bad = problem(await gateway.http.get("/v1/events", headers={"Last-Event-ID": "here"}))
    assert (bad["status"], bad["parameter"]) == (422, "Last-Event-ID")


async def test_all_jobs_of_a_caller_come_once_whatever_is_cut(gateway: Served) -> None:
    async with stream(gateway.http, "/v1/events") as live:
        jobs = [(await gateway.submit(SLOW)).json()["id"] for _ in range(3)]
        seen: list[Event] = []
        while sum(event.event == "job.completed" for event in seen) < 3:
            event = await live.next()
            assert event is not None
            seen.append(event)
    assert {event.data["user"] for event in seen} == {"alice"}
    assert len({event.id for event in seen}) == len(seen)
    by_job = {job: [e.event for e in seen if e.data["id"] == job] for job in jobs}
    assert all(words[0] == "job.pending" for words in by_job.values())
    assert all(words[-1] == "job.completed" for words in by_job.values())
    cut = len(seen) // 2
    async with stream(gateway.http, "/v1/events", after=seen[cut].id) as resumed:
        rest = [await resumed.next() for _ in seen[cut + 1 :]]
    assert [each.data["id"] for each in rest if each] == [e.data["id"] for e in seen[cut + 1 :]]
    assert [each.event for each in rest if each] == [each.event for each in seen[cut + 1 :]]
    for beyond in ("0-1-fffff", "fffffffff"):  # of a database that was restored, or left
        async with stream(gateway.http, "/v1/events", after=beyond) as anew:
            job = await stuck(gateway)
            event = await anew.next()
        assert (event and event.data["id"]) == job["id"], beyond


async def test_a_service_follows_its_users_and_they_see_their_own(gateway: Served) -> None:
    async with gateway.admin() as admin:
        await admin.post("/v1/admin/users", json={"id": "shop"})
        keys = [
            (await admin.post("/v1/admin/keys", json={"user": "shop", "scopes": scopes})).json()
            for scopes in (["jobs:read", "jobs:write", "act_as"], ["jobs:read", "jobs:write"])
        ]
    u1, u2 = ({"X-Gateway-User": user} for user in ("u1", "u2"))
    async with (
        gateway.client(keys[0]["key"]) as shop,
        gateway.client(keys[1]["key"]) as plain,
        stream(shop, "/v1/events") as all_of_them,
        stream(plain, "/v1/events") as own,
    ):
        shop.headers.update(u1)
        async with stream(shop, "/v1/events") as of_u1:
            for headers in (u2, u1):
                await shop.post("/v1/jobs", json=Gateway.body(STUCK), headers=headers)
            await gateway.submit(STUCK)
            await plain.post("/v1/jobs", json=Gateway.body(STUCK))
            first = [await all_of_them.next(), await of_u1.next(), await own.next()]
        assert [each.data["user"] for each in first if each] == ["shop/u2", "shop/u1", "shop"]
        users = {each.data["user"] for each in [await all_of_them.next() for _ in range(3)] if each}
        assert users <= {"shop", "shop/u1", "shop/u2"}


async def test_a_service_that_may_no_longer_act_follows_its_users_no_longer(
    gateway: Served,
) -> None:
    mint = {"user": "shop", "scopes": ["jobs:read", "act_as"]}
    async with gateway.admin() as admin:
        await admin.post("/v1/admin/users", json={"id": "shop"})
        made = (await admin.post("/v1/admin/keys", json=mint)).json()
        async with gateway.client(made["key"]) as shop, stream(shop, "/v1/events") as live:
            scopes = {"scopes": ["jobs:read"]}
            await admin.patch(f"/v1/admin/keys/{made['id']}", json=scopes)
            assert await live.rest() == []


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("users/shop/u1", {"disabled": True}),
        ("users/shop", {"disabled": True}),
        ("keys/{key}", {"scopes": ["jobs:read"]}),
    ],
)
async def test_a_stream_for_a_services_user_ends_with_what_it_depends_on(
    gateway: Served, path: str, change: dict[str, Any]
) -> None:
    mint = {"user": "shop", "scopes": ["jobs:read", "act_as"]}
    async with gateway.admin() as admin:
        await admin.post("/v1/admin/users", json={"id": "shop"})
        made = (await admin.post("/v1/admin/keys", json=mint)).json()
        async with gateway.client(made["key"]) as shop:
            shop.headers["X-Gateway-User"] = "u1"
            async with stream(shop, "/v1/events") as live:
                changed = await admin.patch(f"/v1/admin/{path.format(key=made['id'])}", json=change)
                assert changed.status_code == 200
                assert await live.rest() == []


async def test_a_wait_ends_with_the_job_or_with_the_time(gateway: Served) -> None:
    async with gateway.admin() as operator:
        limits = {"concurrent_jobs": {"limit": 50}, "pending_jobs": {"limit": 70}}
        await operator.patch("/v1/admin/users/alice", json={"limits": limits})
    done = await gateway.submit(SLOW, Prefer='respond-async, wait="30"; x=1, wait=0')
    assert done.status_code == 200
    assert done.headers["preference-applied"] == "wait=30"
    assert done.json()["status"] == "completed"
    assert done.headers["ratelimit"] == '"concurrent_jobs";r=50, "pending_jobs";r=70'
    digits = "9" * 5000
    for ignored in ("wait", "wait=x", "wait=-1", "wait=1.5", f"wait={digits}", "return=minimal"):
        answer = await gateway.submit(STUCK, Prefer=ignored)
        assert (answer.status_code, "preference-applied" in answer.headers) == (202, False)
    short = await gateway.submit(STUCK, Prefer="wait=1")
    assert (short.status_code, short.headers["preference-applied"]) == (202, "wait=1")
    ours_ms = float(short.headers["server-timing"].removeprefix("gateway;dur="))
    rest_ms = short.elapsed.total_seconds() * 1000 - 1000
    assert 0 <= ours_ms < rest_ms + 1, "the wait is not the gateway's work"
    keyed = {"Idempotency-Key": "order-1", "Prefer": "wait=99999999999"}
    request = Gateway.body(SLOW)
    twins = await asyncio.gather(
        *(gateway.http.post("/v1/jobs", json=request, headers=keyed) for _ in range(2))
    )
    assert {twin.status_code for twin in twins} == {200}
    assert {twin.headers["preference-applied"] for twin in twins} == {"wait=60"}
    assert len({twin.json()["id"] for twin in twins}) == 1


async def test_who_may_only_submit_waits_like_anybody_else(gateway: Served) -> None:
    mint = {"user": "alice", "scopes": ["jobs:write"]}
    async with gateway.admin() as admin:
        made = (await admin.post("/v1/admin/keys", json=mint)).json()
    async with gateway.client(made["key"]) as submitter:
        wait = {"Prefer": "wait=60"}
        done = await submitter.post("/v1/jobs", json=Gateway.body("sandbox:slow=40"), headers=wait)
    assert (done.status_code, done.json()["status"]) == (200, "completed")


async def test_a_read_waits_for_the_next_change(gateway: Served) -> None:
    job = (await gateway.submit(SLOW)).json()
    path, statuses, tag = f"/v1/jobs/{job['id']}", [job["status"]], ""
    async with asyncio.timeout(WITHIN_S):
        while statuses[-1] != "completed":
            headers = {"Prefer": "wait=20"} | ({"If-None-Match": tag} if tag else {})
            answer = await gateway.http.get(path, headers=headers)
            assert answer.status_code == 200
            assert answer.headers["preference-applied"] == "wait=20"
            tag = answer.headers["etag"]
            statuses.append(answer.json()["status"])
    assert statuses[0] == "pending"
    final = await gateway.http.get(path, headers={"Prefer": "wait=20", "If-None-Match": tag})
    assert (final.status_code, final.headers["preference-applied"]) == (304, "wait=20")
    idle = await stuck(gateway)
    path = f"/v1/jobs/{idle['id']}"
    tag = (await gateway.http.get(path)).headers["etag"]
    same = await gateway.http.get(path, headers={"Prefer": "wait=1", "If-None-Match": tag})
    assert (same.status_code, same.headers["etag"], same.content) == (304, tag, b"")
    other = await gateway.http.get(path, headers={"Prefer": "wait=20", "If-None-Match": '"x"'})
    assert other.status_code == 200


async def test_places_are_capped_for_streams_and_waits_together_and_freed(gateway: Served) -> None:
    job = await stuck(gateway)
    path = f"/v1/jobs/{job['id']}"

    async def wait_long() -> None:
        """Wait for ever, once there is a place; the probes below take one too, for a moment."""
        while (await gateway.http.get(path, headers={"Prefer": "wait=60"})).is_error:
            pass

    async with (
        stream(gateway.http, events_of(job)),
        stream(gateway.http, "/v1/events"),
        asyncio.TaskGroup() as group,
    ):
        waiting = group.create_task(wait_long())
        async with asyncio.timeout(WITHIN_S):
            while not (await gateway.http.get(path, headers={"Prefer": "wait=0"})).is_error:
                pass
        for refused in ("/v1/events", events_of(job)):
            told = problem(await gateway.http.get(refused))
            assert (told["status"], told["code"], told["limit"]) == (429, "too_many_streams", 3)
        assert problem(await gateway.submit(Prefer="wait=5"))["code"] == "too_many_streams"
        assert (await gateway.submit(STUCK)).status_code == 202
        waiting.cancel()
        async with asyncio.timeout(WITHIN_S / 2):  # long before its minute is over
            while (again := await gateway.http.get(path, headers={"Prefer": "wait=0"})).is_error:
                assert again.status_code == 429
        assert again.status_code == 200
    async with stream(gateway.http, "/v1/events"), stream(gateway.http, "/v1/events"):
        pass


@pytest.mark.parametrize("how", ["revoke", "disable", "rotate", "token", "token's secret"])
async def test_a_stream_ends_with_the_access_it_was_opened_with(gateway: Served, how: str) -> None:
    job = await stuck(gateway)
    mint = {"user": "alice", "scopes": ["jobs:read", "tokens"]}
    async with gateway.admin() as admin:
        made = (await admin.post("/v1/admin/keys", json=mint)).json()
        async with gateway.client(made["key"]) as http:
            path = events_of(job)
            is_linked = how.startswith("token")
            if is_linked:
                token = (await http.post("/v1/client-tokens", json={"job": job["id"]})).json()
                path = token["urls"]["events"]
            async with (
                httpx.AsyncClient(timeout=60) as browser,
                stream(browser if is_linked else http, path) as live,
            ):
                assert (await live.next() or Event("", "", {})).event == "job.in_queue"
                match how:
                    case "revoke":
                        await admin.delete(f"/v1/admin/keys/{made['id']}")
                    case "disable":
                        await admin.patch("/v1/admin/users/alice", json={"disabled": True})
                    case "rotate" | "token's secret":
                        at_once = {"overlap_seconds": 0}
                        await admin.post(f"/v1/admin/keys/{made['id']}/rotate", json=at_once)
                    case _:
                        await http.delete(f"/v1/client-tokens/{token['id']}")
                began = SystemClock().monotonic()
                assert await live.rest() == []
                assert SystemClock().monotonic() - began < WITHIN_S
                assert live.retry is None


@pytest.mark.either_database
async def test_a_stream_and_a_wait_end_with_the_token_of_an_issuer(
    database_url: str, tmp_path: Path
) -> None:
    async with running_issuer() as issuer:
        oidc = {"oidc_issuer": issuer.url, "oidc_audience": AUDIENCE}
        async with serving(database_url, tmp_path, **oidc) as gateway:
            long = issuer.sign(SystemClock().now())
            async with gateway.client(long) as same_user:
                job = await stuck_job_of(same_user)
                now = SystemClock().now()
                short = issuer.sign(now, claims={"exp": now.timestamp() + 2})
                http = gateway.client(short)
                # Let in for clocks that differ, and then not for the shortest of times.
                overdue = issuer.sign(now, claims={"exp": now.timestamp() - 10})
                waits = [
                    asyncio.ensure_future(
                        http.request(method, path, json=sent, headers={"Prefer": "wait=30"})
                    )
                    for method, path, sent in (
                        ("POST", "/v1/jobs", Gateway.body(STUCK)),
                        ("GET", f"/v1/jobs/{job['id']}", None),
                    )
                ]
                async with (
                    gateway.client(overdue) as late,
                    stream(http, events_of(job)) as live,
                    stream(http, "/v1/events") as all_of_them,
                    stream(late, events_of(job)) as stays,
                ):
                    assert {event.data["id"] for event in await live.rest()} == {job["id"]}
                    await all_of_them.rest()
                    assert live.retry is None
                    await same_user.post(f"/v1/jobs/{job['id']}/cancel")
                    assert (await stays.rest())[-1].event == "job.cancelled"
                submitted, read = await asyncio.gather(*waits)
                assert (submitted.status_code, submitted.json()["object"]) == (202, "job")
                assert problem(read)["code"] == "unauthenticated"
                await http.aclose()


async def test_a_stream_sees_what_operators_and_cancels_do(gateway: Served) -> None:
    job = await stuck(gateway)
    async with gateway.admin() as admin, stream(gateway.http, events_of(job)) as live:
        assert await live.next() is not None
        await admin.post(f"/v1/admin/jobs/{job['id']}/fail")
        (end,) = await live.rest()
    assert (end.event, end.data["error"]["code"]) == ("job.failed", "ended_by_operator")
    assert (await gateway.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    assert (await gateway.http.get(events_of(job))).status_code == 404


async def test_what_is_no_http_is_refused_like_everything_else(gateway: Served) -> None:
    unheard_of = await gateway.http.request("FOO", "/v1/jobs")
    body = unheard_of.json()
    assert (unheard_of.status_code, body["status"], body["code"]) == (400, 400, "bad_request")
    assert body["request_id"] == unheard_of.headers["x-request-id"]
    assert unheard_of.headers["server-timing"].startswith("gateway;dur=")
    for path in ("/", "/console", "/healthz"):
        head = await gateway.http.head(path)
        assert (head.status_code, head.content) == (200, b""), path


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0, HTTP/9"])
async def test_an_offer_of_another_protocol_is_declined_and_its_request_taken(
    gateway: Served, offer: str
) -> None:
    """Java's client offers HTTP/2 with its first request, be it a submit."""
    headers = {"Upgrade": offer, "Connection": "Upgrade"}
    answer = await gateway.submit(STUCK, **headers)
    assert answer.status_code == 202
    # In one piece: behind each head is its body, or the next request.
    key = gateway.http.headers["Authorization"]
    head = f"Host: here\r\nAuthorization: {key}\r\nConnection: Upgrade\r\nUpgrade: {offer}\r\n"
    pieces = (
        f"POST /v1/jobs HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}",
        f"GET /v1/me HTTP/1.1\r\n{head}\r\n",
        f"POST /v1/jobs HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"POST /v1/jobs HTTP/1.1\r\nConnection: close\r\n{head}Content-Length: 2\r\n\r\n{{}}",
    )
    address = httpx.URL(gateway.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write("".join(pieces).encode())
    async with asyncio.timeout(WITHIN_S):
        answers = (await reader.read()).decode()
    writer.close()
    assert re.findall(r"HTTP/1.1 (\d+)", answers) == ["422", "200", "400", "422"]


async def test_what_follows_a_body_is_no_header_of_its_request(gateway: Served) -> None:
    """Proxies look at headers alone: whom a caller may act for, say."""
    key = gateway.http.headers["Authorization"]
    address = httpx.URL(gateway.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    # In one piece, so that all has come when the request is looked at.
    writer.write(
        "POST /v1/jobs HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nAuthorization: {key}\r\n\r\n".encode()
    )
    async with asyncio.timeout(WITHIN_S):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")


async def test_a_head_that_does_not_end_is_refused(gateway: Served) -> None:
    address = httpx.URL(gateway.url)
    key = gateway.http.headers["Authorization"]
    head = (
        "POST /v1/jobs HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n"
        f"Authorization: {key}\r\nExpect: 100-continue\r\n\r\n"
    )
    for before, start in (
        ("", "GET /"),
        ("", "GET /healthz HTTP/1.1\r\nX-Long: "),
        (head, "0\r\nX-Long: "),  # the parser keeps trailers, too
    ):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(before.encode())
        async with asyncio.timeout(WITHIN_S):
            if before:
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(start.encode().ljust(64 * 1024 + 1, b"x"))
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b'"code":"bad_request"' in answer
        writer.close()
