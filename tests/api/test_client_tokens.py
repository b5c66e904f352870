"""Client tokens: what browser apps may do with them, and everything that ends them."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.answers import faults, problem
from tests.support.credentials import client_with_key, client_with_token, minted
from tests.support.gateway import PUBLIC_URL, SEEDANCE, Gateway
from tests.support.rows import change
from tests.support.statements import recorded
from tests.support.switched_database import SwitchedDatabase
from tests.support.turns import turns

pytestmark = pytest.mark.either_database

OTHER_MODEL = "wan-ai/wan-2.7/text-to-video"


async def price(gateway: Gateway, usd: str) -> None:
    line = {"model": SEEDANCE, "base_price_usd": usd, "price_unit": "second"}
    assert (await gateway.admin.put("/v1/admin/prices", json={"prices": [line]})).is_success


async def all_is_well(gateway: Gateway) -> None:
    answer = await gateway.admin.get("/v1/admin/invariants")
    assert answer.json() == {"ok": True, "violations": []}


def anybody(gateway: Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=gateway.app), base_url=PUBLIC_URL)


async def test_a_token_is_shown_once_and_may_what_it_says(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    answer = await maker.post(
        "/v1/client-tokens", json={"scopes": ["jobs:write", "jobs:read"], "models": [SEEDANCE]}
    )
    made = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert answer.headers["Location"] == f"/v1/client-tokens/{made['id']}"
    token = made.pop("token")
    assert token.startswith("rct_")
    assert made.pop("urls") is None
    assert made == {
        "object": "client_token",
        "id": made["id"],
        "scopes": ["jobs:read", "jobs:write"],
        "models": [SEEDANCE],
        "max_jobs": None,
        "max_cost_usd": None,
        "job": None,
        "origin": None,
        "created_at": "2026-11-22T10:00:00.000Z",
        "expires_at": "2026-11-22T10:15:00.000Z",
    }
    listed = (await maker.get("/v1/client-tokens")).json()
    assert listed == {"object": "list", "data": [made], "next_cursor": None}

    app = gateway.client_with(token)
    me = (await app.get("/v1/me")).json()
    assert (me["user"], me["scopes"], me["models"]) == (
        "alice",
        ["jobs:read", "jobs:write"],
        [SEEDANCE],
    )
    job = (await app.post("/v1/jobs", json=gateway.body())).json()
    assert (await gateway.read(job))["id"] == job["id"]
    other = gateway.body() | {"model": OTHER_MODEL}
    assert (await app.post("/v1/jobs", json=other)).json()["code"] == "model_not_allowed"
    assert (await app.get("/v1/webhook-secret")).status_code in (403, 404)
    for method in ("POST", "GET"):
        refused = problem(await app.request(method, "/v1/client-tokens", json={}))
        assert (refused["status"], refused["scope"]) == (403, "tokens")
    acting = await app.get("/v1/jobs", headers={"X-Gateway-User": "u1"})
    assert problem(acting)["scope"] == "act_as"
    guessed = gateway.client_with(f"{token[:-43]}{'A' * 43}")
    assert (await guessed.get("/v1/me")).status_code == 401
    for parameter in ("token", "key", "access_token", "api_key", "authorization"):
        answer = await anybody(gateway).get("/v1/me", params={parameter: token})
        assert answer.status_code == 401


async def test_a_key_without_the_scope_makes_none(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/client-tokens", json={"scopes": ["jobs:read"]})
    assert problem(answer)["scope"] == "tokens"


WRONG: list[tuple[dict[str, Any], tuple[str, str]]] = [
    ({}, ("", "kind")),
    ({"scopes": []}, ("/scopes", "min_items")),
    ({"scopes": ["jobs:reed"]}, ("/scopes/0", "unknown_scope")),
    ({"scopes": ["jobs:read", "tokens"]}, ("/scopes/1", "not_for_clients")),
    ({"scopes": ["webhooks"]}, ("/scopes/0", "not_for_clients")),
    ({"scopes": ["act_as"]}, ("/scopes/0", "not_for_clients")),
    ({"scopes": ["files"], "models": ["x"]}, ("/models/0", "unknown_model")),
    ({"scopes": ["files"], "origin": "*"}, ("/origin", "unknown_origin")),
    ({"scopes": ["files"], "origin": "https://evil.test"}, ("/origin", "unknown_origin")),
    ({"scopes": ["files"], "max_jobs": 0}, ("/max_jobs", "minimum")),
    ({"scopes": ["files"], "max_jobs": True}, ("/max_jobs", "type")),
    ({"scopes": ["files"], "max_cost_usd": "-1"}, ("/max_cost_usd", "usd")),
    ({"scopes": ["files"], "max_cost_usd": 0}, ("/max_cost_usd", "usd")),
    ({"scopes": ["files"], "max_cost_usd": "1.0000001"}, ("/max_cost_usd", "usd")),
    ({"scopes": ["files"], "expires_in": 0}, ("/expires_in", "minimum")),
    ({"scopes": ["files"], "expires_in": 86_401}, ("/expires_in", "maximum")),
    ({"scopes": ["files"], "expires_in": "900"}, ("/expires_in", "type")),
    ({"scopes": ["files"], "expires": 900}, ("/expires", "unknown_field")),
    ({"job": "job_x", "scopes": ["jobs:read"]}, ("", "kind")),
]


async def test_what_is_asked_wrongly_is_named(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    for body, fault in WRONG:
        assert faults(await maker.post("/v1/client-tokens", json=body)) == [fault], body


async def test_a_token_is_never_more_than_its_maker(gateway: Gateway) -> None:
    narrow = await client_with_key(
        gateway, scopes=["jobs:read", "tokens"], models=[SEEDANCE], limits={}
    )
    beyond = await narrow.post("/v1/client-tokens", json={"scopes": ["jobs:read", "jobs:write"]})
    assert (beyond.status_code, problem(beyond)["scope"]) == (403, "jobs:write")
    beyond = await narrow.post(
        "/v1/client-tokens", json={"scopes": ["jobs:read"], "models": [SEEDANCE, OTHER_MODEL]}
    )
    assert (beyond.status_code, problem(beyond)["code"]) == (403, "model_not_allowed")

    # What is taken from a key later is taken from its tokens at once.
    maker = await client_with_key(gateway)
    app = await client_with_token(gateway, maker)
    key = (await app.get("/v1/me")).json()["key"]
    await gateway.admin.patch(
        f"/v1/admin/keys/{key}", json={"scopes": ["jobs:read", "tokens"], "models": [OTHER_MODEL]}
    )
    me = (await app.get("/v1/me")).json()
    assert (me["scopes"], me["models"]) == (["jobs:read"], [OTHER_MODEL])
    await gateway.admin.patch(
        f"/v1/admin/keys/{key}",
        json={"scopes": ["jobs:write"], "models": None, "limits": {"jobs_per_day": {"limit": 1}}},
    )
    assert (await app.post("/v1/jobs", json=gateway.body())).status_code == 202
    assert (await app.post("/v1/jobs", json=gateway.body())).json()["limit"] == "jobs_per_day"
    more = {"limits": {"jobs_per_day": {"limit": 9}}}
    await gateway.admin.patch(f"/v1/admin/keys/{key}", json=more)
    users = {"limits": {"pending_jobs": {"limit": 1}}}
    await gateway.admin.patch("/v1/admin/users/alice", json=users)
    assert (await app.post("/v1/jobs", json=gateway.body())).json()["limit"] == "pending_jobs"


async def test_a_token_ends_by_itself_by_hand_with_its_key_and_with_its_user(
    gateway: Gateway, database_url: str
) -> None:
    maker = await client_with_key(gateway)
    short = await client_with_token(gateway, maker, expires_in=5)
    made = await minted(maker)
    app = gateway.client_with(made["token"])
    gateway.wait(4.9)
    assert (await short.get("/v1/me")).status_code == 200
    gateway.wait(0.1)
    assert (await short.get("/v1/me")).status_code == 401
    assert [each["id"] for each in (await maker.get("/v1/client-tokens")).json()["data"]] == [
        made["id"]
    ]

    stranger = await client_with_key(gateway, "bob")
    gone = await stranger.delete(f"/v1/client-tokens/{made['id']}")
    assert (gone.status_code, problem(gone)["code"]) == (404, "client_token_not_found")
    assert (await app.get("/v1/me")).status_code == 200
    assert (await maker.delete(f"/v1/client-tokens/{made['id']}")).status_code == 204
    assert (await app.get("/v1/me")).status_code == 401
    for token_id in (made["id"], "ctok_x", "x%00"):
        assert (await maker.delete(f"/v1/client-tokens/{token_id}")).status_code == 404

    # The secret that made it was rotated away: at once, or when the overlap is over.
    app = await client_with_token(gateway, maker, expires_in=3600)
    key = (await app.get("/v1/me")).json()["key"]
    rotated = await gateway.admin.post(f"/v1/admin/keys/{key}/rotate", json={"overlap_seconds": 60})
    fresh = gateway.client_with(rotated.json()["key"])
    newer = await client_with_token(gateway, fresh, expires_in=3600)
    assert (await app.get("/v1/me")).status_code == 200
    gateway.wait(60)
    assert (await app.get("/v1/me")).status_code == 401
    assert (await newer.get("/v1/me")).status_code == 200

    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": True})
    assert (await newer.get("/v1/me")).status_code == 401
    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": False})
    assert (await newer.get("/v1/me")).status_code == 200
    change(database_url, "UPDATE api_keys SET expires_at = :at", at=gateway.clock.now())
    assert (await newer.get("/v1/me")).status_code == 401
    change(database_url, "UPDATE api_keys SET expires_at = NULL")
    assert (await newer.get("/v1/me")).status_code == 200
    await gateway.admin.delete(f"/v1/admin/keys/{key}")
    assert (await newer.get("/v1/me")).status_code == 401


async def test_a_user_has_ten_thousand_live_tokens_at_most(
    gateway: Gateway, database_url: str
) -> None:
    maker, asked = await client_with_key(gateway), {"scopes": ["jobs:read"]}
    made = await minted(maker, expires_in=60)
    change(
        database_url,
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 9998)"
        " INSERT INTO client_tokens"
        " (id, secret_hash, key_id, key_secret_hash, user_id, scopes, created_at, expires_at)"
        " SELECT 'ctok_' || n, secret_hash, key_id, key_secret_hash, user_id, scopes, created_at,"
        " expires_at FROM client_tokens CROSS JOIN numbers WHERE id = :id",
        id=made["id"],
    )
    assert (await maker.post("/v1/client-tokens", json=asked)).status_code == 201
    refused = await maker.post("/v1/client-tokens", json=asked)
    assert (refused.status_code, problem(refused)["code"]) == (429, "too_many_client_tokens")
    stranger = await client_with_key(gateway, "bob")
    assert (await stranger.post("/v1/client-tokens", json=asked)).status_code == 201
    gateway.wait(60)
    assert (await maker.post("/v1/client-tokens", json=asked)).status_code == 201


@pytest.mark.parametrize("gone", ["user", "job"])
async def test_a_token_is_refused_whose_user_or_job_was_deleted_just_now(
    gateway: Gateway, database_url: str, gone: str
) -> None:
    maker = await client_with_key(gateway)
    job = await gateway.follow(await gateway.submit("sandbox:instant"))
    tokens = gateway.app.state.services.client_tokens
    tokens._database = database = SwitchedDatabase(database_url)  # noqa: SLF001 - takes its place
    database.open.clear()
    asking = asyncio.ensure_future(maker.post("/v1/client-tokens", json={"job": job["id"]}))
    try:
        async with asyncio.timeout(60):
            while not database.waiting:
                await turns()
        if gone == "user":
            assert (await gateway.admin.delete("/v1/admin/users/alice")).is_success
        else:
            assert (await maker.delete(f"/v1/jobs/{job['id']}")).status_code == 204
        database.open.set()
        refused = await asking
        assert (refused.status_code, problem(refused)["code"]) == (404, "not_found")
    finally:
        await database.close()


async def test_a_bounded_token_that_is_revoked_while_it_submits_makes_no_job(
    gateway: Gateway, database_url: str
) -> None:
    maker = await client_with_key(gateway)
    made = await minted(maker, max_jobs=1)
    batch = gateway.app.state.services.intake._batch  # noqa: SLF001 - its database gets a switch
    batch._database = database = SwitchedDatabase(database_url)  # noqa: SLF001
    database.open.clear()
    app = gateway.client_with(made["token"])
    asking = asyncio.ensure_future(app.post("/v1/jobs", json=gateway.body()))
    try:
        async with asyncio.timeout(60):
            while not database.waiting:
                await turns()
        assert (await maker.delete(f"/v1/client-tokens/{made['id']}")).status_code == 204
        database.open.set()
        refused = await asking
        assert (refused.status_code, problem(refused)["code"]) == (401, "unauthenticated")
        assert (await maker.get("/v1/jobs")).json()["data"] == []
    finally:
        await database.close()


async def test_a_service_makes_tokens_for_its_users(gateway: Gateway) -> None:
    shop = await client_with_key(
        gateway, "shop", scopes=["jobs:read", "jobs:write", "tokens", "act_as"]
    )
    acting = {"X-Gateway-User": "u1"}
    answer = await shop.post(
        "/v1/client-tokens", json={"scopes": ["jobs:read", "jobs:write"]}, headers=acting
    )
    made = answer.json()
    app = gateway.client_with(made["token"])
    assert (await app.get("/v1/me")).json()["user"] == "shop/u1"
    job = (await app.post("/v1/jobs", json=gateway.body())).json()
    assert (await shop.get(f"/v1/jobs/{job['id']}", headers=acting)).status_code == 200
    assert (await shop.get(f"/v1/jobs/{job['id']}")).status_code == 404
    assert (await shop.get("/v1/client-tokens")).json()["data"] == []
    listed = (await shop.get("/v1/client-tokens", headers=acting)).json()["data"]
    assert [each["id"] for each in listed] == [made["id"]]

    # It ends with either user, and with the right to act for others.
    await gateway.admin.patch("/v1/admin/users/shop", json={"disabled": True})
    assert (await app.get("/v1/me")).status_code == 401
    await gateway.admin.patch("/v1/admin/users/shop", json={"disabled": False})
    await gateway.admin.patch("/v1/admin/users/shop/u1", json={"disabled": True})
    assert (await app.get("/v1/me")).status_code == 401
    await gateway.admin.patch("/v1/admin/users/shop/u1", json={"disabled": False})
    assert (await app.get("/v1/me")).status_code == 200
    key = (await app.get("/v1/me")).json()["key"]
    await gateway.admin.patch(
        f"/v1/admin/keys/{key}", json={"scopes": ["jobs:read", "jobs:write", "tokens"]}
    )
    assert (await app.get("/v1/me")).status_code == 401


async def test_a_user_is_deleted_with_its_tokens(gateway: Gateway) -> None:
    maker = await client_with_key(gateway, "carol")
    app = await client_with_token(gateway, maker)
    assert (await gateway.admin.delete("/v1/admin/users/carol")).is_success
    assert (await app.get("/v1/me")).status_code == 401


async def test_max_jobs_counts_what_is_held_and_used_and_nothing_else(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    app = await client_with_token(gateway, maker, max_jobs=3)
    first, again = gateway.body("sandbox:instant"), {"Idempotency-Key": "order-1"}
    job = (await app.post("/v1/jobs", json=first, headers=again)).json()
    answers = await asyncio.gather(
        *(app.post("/v1/jobs", json=gateway.body()) for _ in range(12)),
        *(app.post("/v1/jobs", json=first, headers=again) for _ in range(4)),
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [202] * 2 + [429] * 10
    body = problem(next(answer for answer in answers if answer.status_code == 429))
    assert body.pop("detail").startswith("The limit max_jobs of your client token is 3: 0 used, 3")
    assert body == {
        "status": 429,
        "code": "quota_exceeded",
        "limit": "max_jobs",
        "limit_value": 3,
        "used": 0,
        "held": 3,
        "requested": 1,
        "remaining": 0,
        "resets_at": None,
    }
    (limit,) = (await app.get("/v1/me")).json()["limits"]
    assert (limit["name"], limit["subject"], limit["remaining"]) == ("max_jobs", "token", 0)
    assert '"max_jobs";r=0' in (await app.get("/v1/me")).headers["RateLimit"]

    # A job that is cancelled makes room; one that is done counts on, erased or not.
    waiting = next(answer.json() for answer in answers if answer.status_code == 202)
    assert (await app.post(f"/v1/jobs/{waiting['id']}/cancel")).status_code == 200
    assert (await app.post("/v1/jobs", json=gateway.body())).status_code == 202
    assert (await app.post("/v1/jobs", json=gateway.body())).status_code == 429
    await gateway.follow(job)
    assert (await app.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    assert (await app.post("/v1/jobs", json=gateway.body())).status_code == 429
    assert (await gateway.http.post("/v1/jobs", json=gateway.body())).status_code == 202
    await all_is_well(gateway)


async def test_max_cost_is_money_and_an_unknown_price_is_not_zero(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    app = await client_with_token(gateway, maker, max_cost_usd="0.50")
    assert faults(await app.post("/v1/jobs", json=gateway.body())) == [("/model", "price_unknown")]
    await price(gateway, "0.10")
    done = (await app.post("/v1/jobs", json=gateway.body("sandbox:instant", duration=3))).json()
    refused = await app.post("/v1/jobs", json=gateway.body(duration=3))
    body = problem(refused)
    assert (body["limit"], body["held"], body["requested"]) == ("max_cost_usd", "0.30", "0.30")
    waiting = (await app.post("/v1/jobs", json=gateway.body(duration=2))).json()
    assert (await app.post("/v1/jobs", json=gateway.body(duration=2))).status_code == 429
    check = (await app.post("/v1/jobs/validate", json=gateway.body(duration=2))).json()
    assert [(each["name"], each["remaining"]) for each in check["limits"]] == [
        ("max_cost_usd", "0.00")
    ]
    await app.post(f"/v1/jobs/{waiting['id']}/cancel")
    await gateway.follow(done)
    rivals = [app.post("/v1/jobs", json=gateway.body(duration=2)) for _ in range(3)]
    answers = await asyncio.gather(*rivals)
    assert sorted(answer.status_code for answer in answers) == [202, 429, 429]
    body = problem(next(answer for answer in answers if answer.status_code == 429))
    assert (body["used"], body["held"]) == ("0.30", "0.20")
    await all_is_well(gateway)


async def test_a_bound_token_needs_the_page_that_it_was_made_for(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    app = await client_with_token(gateway, maker, origin=PUBLIC_URL)

    async def status(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await app.get("/v1/me", headers=sent)).status_code

    assert await status(Origin=PUBLIC_URL) == 200
    assert await status(Sec_Fetch_Site="same-origin") == 200
    refused = await app.get("/v1/me", headers={"Origin": "https://evil.test"})
    assert (refused.status_code, problem(refused)["code"]) == (403, "wrong_origin")
    assert await status() == 403
    assert await status(Sec_Fetch_Site="cross-site") == 403
    assert await status(Sec_Fetch_Site="same-site") == 403
    assert await status(Origin="null", Sec_Fetch_Site="same-origin") == 403
    assert await status(Origin=f"{PUBLIC_URL}:443") == 403
    unbound = await client_with_token(gateway, maker)
    assert (await unbound.get("/v1/me", headers={"Origin": "https://evil.test"})).is_success


async def test_a_job_token_reads_its_job_and_nothing_else(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    job = await gateway.follow(await gateway.submit("sandbox:instant"))
    other = await gateway.submit()
    made = await minted(maker, job=job["id"], expires_in=600)
    assert (made["job"], made["scopes"]) == (job["id"], ["jobs:read"])
    app = gateway.client_with(made["token"])
    assert (await app.get(f"/v1/jobs/{job['id']}")).json()["status"] == "completed"
    assert (await app.get(f"/v1/jobs/{job['id']}/outputs/0")).status_code == 200
    assert (await app.get(f"/v1/requests/{job['id']}/status")).status_code == 200
    hidden = await app.get(f"/v1/jobs/{other['id']}")
    assert (hidden.status_code, problem(hidden)["code"]) == (404, "job_not_found")
    for path in ("/v1/jobs", "/v1/me", "/v1/usage"):
        refused = await app.get(path)
        assert (refused.status_code, problem(refused)["code"]) == (403, "one_job_only")
    assert (await app.get("/v1/models")).status_code == 403
    for method, path in (("POST", "/cancel"), ("DELETE", "")):
        refused = await app.request(method, f"/v1/jobs/{job['id']}{path}")
        assert problem(refused)["scope"] == "jobs:write"

    for stranger in ("bob", "alice"):
        bob = await client_with_key(gateway, stranger)
        for job_id in ("job_x", "job_" + "0" * 26, job["id"]):
            answer = await bob.post("/v1/client-tokens", json={"job": job_id})
            mine = stranger == "alice" and job_id == job["id"]
            assert answer.status_code == (201 if mine else 404), answer.text


async def test_links_of_a_job_token_live_as_long_as_it_does(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    page = anybody(gateway)
    going = await gateway.submit("sandbox:instant")
    early = await minted(maker, job=going["id"])
    (link,) = early["urls"]["outputs"]
    answer = await page.get(link)
    assert (answer.status_code, problem(answer)["code"]) == (404, "output_not_found")
    await gateway.follow(going)
    answer = await page.get(link, headers={"Range": "bytes=0-3"})
    assert (answer.status_code, len(answer.content)) == (206, 4)

    # Each is good for its own path, job and token; nothing of it can be changed.
    other = await gateway.follow(await gateway.submit("sandbox:instant"))
    twin = await minted(maker, job=going["id"])
    url = httpx.URL(link)
    for changed in (
        link.replace("outputs/0", "outputs/1"),
        link.replace(going["id"], other["id"]),
        link.replace(early["id"], twin["id"]),
        str(url.copy_set_param("expires", int(url.params["expires"]) + 1)),
        str(url.copy_remove_param("expires")),
        str(url.copy_remove_param("grant")),
        str(url.copy_set_param("signature", "A" * 32)),
        early["urls"]["events"].replace("/events", "/outputs/0"),
    ):
        answer = await page.get(changed)
        assert (answer.status_code, problem(answer)["code"]) == (401, "invalid_signature"), changed
    # A broken link is not mended by a credential, and a whole one asks for none.
    assert (await maker.get(f"{link}x")).status_code == 401
    assert (await page.get(link)).status_code == 200

    assert (await maker.delete(f"/v1/client-tokens/{early['id']}")).status_code == 204
    assert problem(await page.get(link))["code"] == "unauthenticated"
    (link,) = twin["urls"]["outputs"]
    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": True})
    assert (await page.get(link)).status_code == 401
    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": False})
    assert (await page.get(link)).status_code == 200
    assert (await maker.delete(f"/v1/jobs/{going['id']}")).status_code == 204
    assert (await page.get(link)).status_code in (401, 404)

    (link,) = (await minted(maker, job=other["id"], expires_in=30))["urls"]["outputs"]
    gateway.wait(29)
    assert (await page.get(link)).status_code == 200
    gateway.wait(1)
    assert problem(await page.get(link))["code"] == "invalid_signature"


async def test_links_of_a_job_token_open_no_more_than_the_token_does(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    job = await gateway.follow(await gateway.submit("sandbox:instant"))
    made = await minted(maker, job=job["id"])
    key_id = (await maker.get("/v1/me")).json()["key"]
    page, token = anybody(gateway), gateway.client_with(made["token"])
    narrowed = {"scopes": ["jobs:write", "tokens"]}
    assert (await gateway.admin.patch(f"/v1/admin/keys/{key_id}", json=narrowed)).is_success
    for refused in (
        await token.get(f"/v1/jobs/{job['id']}"),
        await page.get(made["urls"]["events"]),
        await page.get(made["urls"]["outputs"][0]),
    ):
        body = problem(refused)
        assert (body["status"], body["code"], body["scope"]) == (403, "missing_scope", "jobs:read")


async def test_expired_tokens_are_pruned_and_lists_are_paged(gateway: Gateway) -> None:
    maker = await client_with_key(gateway)
    made = [(await minted(maker, expires_in=60 + n))["id"] for n in range(5)]
    page = (await maker.get("/v1/client-tokens?limit=3")).json()
    rest = (await maker.get(f"/v1/client-tokens?cursor={page['next_cursor']}")).json()
    assert [each["id"] for each in page["data"] + rest["data"]] == made[::-1]
    assert rest["next_cursor"] is None
    for wrong in ("limit=0", "cursor=x", "what=1"):
        assert (await maker.get(f"/v1/client-tokens?{wrong}")).status_code == 422
    tokens = gateway.app.state.services.client_tokens
    gateway.wait(3600 + 62)
    assert [await tokens.prune(limit=2), await gateway.workers.pruner.run_once()] == [2, 1]


async def test_those_who_call_together_are_looked_up_together(gateway: Gateway) -> None:
    """The pages of an app may all call at once; so may a service, for as many of its users."""
    maker = await client_with_key(gateway, scopes=["jobs:read", "tokens", "act_as"])
    user = {"X-Gateway-User": "u1"}
    app = await client_with_token(gateway, maker, scopes=["jobs:read"])
    assert (await maker.get("/v1/models", headers=user)).is_success
    for client, headers, table in ((app, {}, "client_tokens"), (maker, user, "users")):
        with recorded(gateway) as seen:
            await asyncio.gather(*(client.get("/v1/models", headers=headers) for _ in range(50)))
        looks = [text for each in seen for text in each if f"FROM {table} " in text]
        assert 0 < len(looks) < 25
