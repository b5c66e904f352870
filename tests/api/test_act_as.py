"""X-Gateway-User: a service speaks for its own users, and for nobody else's."""

import asyncio
from typing import Any

import httpx
import pytest

from app.auth.access import AccessCheck
from app.auth.scopes import Scope
from app.auth.service import AuthService
from app.core.errors import UserGoneError
from app.db.engine import opened_database
from app.events.tail import Whose
from tests.support.answers import problem
from tests.support.gateway import SEEDANCE, Gateway
from tests.support.switched_database import SwitchedDatabase
from tests.support.turns import turns

pytestmark = pytest.mark.either_database

FROM_TEXT = "wan-ai/wan-2.7/text-to-video"
FROM_IMAGE = "wan-ai/wan-2.7/image-to-video"


async def shop(gateway: Gateway, owner: str = "shop", **fields: Any) -> httpx.AsyncClient:
    """Make a service's user, and the client of a key that may act for others."""
    await gateway.admin.post("/v1/admin/users", json={"id": owner})
    key = {"user": owner, "scopes": ["jobs:read", "jobs:write", "act_as"], **fields}
    answer = await gateway.admin.post("/v1/admin/keys", json=key)
    assert answer.status_code == 201, answer.text
    return gateway.client_with(answer.json()["key"])


def acting_for(user: str) -> dict[str, str]:
    return {"X-Gateway-User": user}


async def submitted(gateway: Gateway, client: httpx.AsyncClient, user: str) -> httpx.Response:
    return await client.post("/v1/jobs", json=gateway.body(), headers=acting_for(user))


async def test_a_key_without_the_scope_cannot_act(gateway: Gateway) -> None:
    answer = await gateway.http.get("/v1/jobs", headers=acting_for("u1"))
    body = problem(answer)
    assert (body["status"], body["code"], body["scope"]) == (403, "missing_scope", "act_as")
    users = (await gateway.admin.get("/v1/admin/users")).json()["data"]
    assert [user["id"] for user in users] == ["alice"]


async def test_a_user_is_made_on_first_sight_under_the_keys_plan(gateway: Gateway) -> None:
    await gateway.admin.post(
        "/v1/admin/plans", json={"name": "trial", "limits": {"jobs_per_day": {"limit": 3}}}
    )
    client = await shop(gateway, plan="trial")
    me = (await client.get("/v1/me", headers=acting_for("u1@example.com"))).json()
    assert (me["user"], me["plan"]) == ("shop/u1@example.com", "trial")
    assert [limit["limit"] for limit in me["limits"]] == [3]
    made = (await gateway.admin.get("/v1/admin/users/shop/u1@example.com")).json()
    assert (made["id"], made["plan"], made["disabled"]) == ("shop/u1@example.com", "trial", False)
    own = (await client.get("/v1/me")).json()
    assert (own["user"], own["plan"]) == ("shop", None)


@pytest.mark.parametrize("user", ["a/b", "a b", "", " ", "a" * 129, "oidc", "a,b", "\xe9"])
async def test_what_is_no_user_id_is_refused(gateway: Gateway, user: str) -> None:
    client = await shop(gateway)
    headers = httpx.Headers({"X-Gateway-User": user}, encoding="latin-1")
    answer = await client.get("/v1/jobs", headers=headers)
    body = problem(answer)
    assert (body["status"], body["code"]) == (422, "invalid_user_id")
    assert body["parameter"] == "X-Gateway-User"


async def test_a_header_given_twice_names_nobody(gateway: Gateway) -> None:
    client = await shop(gateway)
    headers = [("X-Gateway-User", "u1"), ("X-Gateway-User", "u2")]
    answer = await client.get("/v1/jobs", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_user_id")


async def test_users_of_a_service_see_their_own_jobs_alone(gateway: Gateway) -> None:
    client, rival = await shop(gateway), await shop(gateway, "rival")
    job = (await submitted(gateway, client, "u1")).json()
    url = f"/v1/jobs/{job['id']}"
    assert (await client.get(url, headers=acting_for("u1"))).status_code == 200
    for stranger, headers in (
        (client, acting_for("u2")),
        (client, {}),
        (rival, acting_for("u1")),
        (gateway.http, {}),
    ):
        assert (await stranger.get(url, headers=headers)).status_code == 404
        assert (await stranger.post(f"{url}/cancel", headers=headers)).status_code == 404
        assert (await stranger.delete(url, headers=headers)).status_code == 404
        assert (await stranger.get("/v1/jobs", headers=headers)).json()["data"] == []
    reached = await rival.get(url, headers=acting_for("shop/u1"))
    assert (reached.status_code, reached.json()["code"]) == (422, "invalid_user_id")
    seen = (await gateway.admin.get("/v1/admin/jobs?user=shop/u1")).json()["data"]
    assert [(each["id"], each["user"]) for each in seen] == [(job["id"], "shop/u1")]


async def test_services_whose_names_differ_in_case_alone_follow_their_own_jobs(
    gateway: Gateway,
) -> None:
    feed = gateway.app.state.services.feed
    start = await feed.start(None)
    for owner in ("shop", "SHOP", "sh_p"):
        assert (await submitted(gateway, await shop(gateway, owner), "u1")).status_code == 202
    for owner in ("shop", "SHOP", "sh_p"):
        news = await feed.of_caller(Whose(owner, with_theirs=True), after=start)
        assert [moment.job.user_id for _, moment in news.moments] == [f"{owner}/u1"]


async def test_idempotency_keys_are_each_users_own(gateway: Gateway) -> None:
    client, body = await shop(gateway), gateway.body()
    ids = set()
    for user in ("u1", "u2", "u1"):
        headers = acting_for(user) | {"Idempotency-Key": "order-1"}
        ids.add((await client.post("/v1/jobs", json=body, headers=headers)).json()["id"])
    assert len(ids) == 2


async def test_a_user_that_is_called_like_a_word_of_the_admin_api_is_read(
    gateway: Gateway,
) -> None:
    client = await shop(gateway)
    for name in ("limits", "user-limits"):
        await client.get("/v1/me", headers=acting_for(name))
        read = await gateway.admin.get(f"/v1/admin/users/shop/{name}")
        assert read.json().get("id") == f"shop/{name}"
        left = await gateway.admin.get(f"/v1/admin/user-limits/shop/{name}")
        assert left.json() == {"user": f"shop/{name}", "timezone": "UTC", "limits": []}


async def test_the_limits_are_the_users_and_the_keys(gateway: Gateway) -> None:
    client = await shop(gateway, limits={"jobs_per_day": {"limit": 3}})
    await client.get("/v1/me", headers=acting_for("u1"))
    await gateway.admin.patch(
        "/v1/admin/users/shop/u1", json={"limits": {"jobs_per_day": {"limit": 2}}}
    )
    for _ in range(2):
        assert (await submitted(gateway, client, "u1")).status_code == 202
    refused = await submitted(gateway, client, "u1")
    assert refused.status_code == 429
    assert "limit jobs_per_day of your user is 2" in refused.json()["detail"]
    assert (await submitted(gateway, client, "u2")).status_code == 202
    refused = await submitted(gateway, client, "u3")
    assert refused.status_code == 429
    assert "limit jobs_per_day of your key is 3" in refused.json()["detail"]
    invariants = (await gateway.admin.get("/v1/admin/invariants")).json()
    assert invariants == {"ok": True, "violations": []}


async def test_what_is_left_is_told_of_each_user_alone(gateway: Gateway) -> None:
    plan = {"name": "three", "limits": {"jobs_per_day": {"limit": 3}}}
    await gateway.admin.post("/v1/admin/plans", json=plan)
    client = await shop(gateway, plan="three")
    await submitted(gateway, client, "u1")
    for user, left in (("u1", 2), ("u2", 3)):
        answer = await client.get("/v1/jobs", headers=acting_for(user))
        assert answer.headers["RateLimit"] == f'"jobs_per_day";r={left};t=50400'


async def test_a_keys_limits_have_the_zone_of_its_owner(gateway: Gateway) -> None:
    """At 10:00 in UTC it is 23:00 in Auckland: the key's day ends long before the user's."""
    await gateway.admin.post("/v1/admin/plans", json={"name": "nz", "timezone": "Pacific/Auckland"})
    client = await shop(gateway, limits={"jobs_per_day": {"limit": 1}})
    await gateway.admin.patch("/v1/admin/users/shop", json={"plan": "nz"})
    assert (await submitted(gateway, client, "u1")).status_code == 202
    me = (await client.get("/v1/me", headers=acting_for("u1"))).json()
    (limit,) = me["limits"]
    assert (limit["held"], limit["resets_at"]) == (1, "2026-11-22T11:00:00.000Z")
    assert (await submitted(gateway, client, "u2")).status_code == 429
    gateway.wait(3600)
    me = (await client.get("/v1/me", headers=acting_for("u1"))).json()
    assert me["limits"][0]["held"] == 0
    assert (await submitted(gateway, client, "u2")).status_code == 202


async def test_a_users_own_limits_have_the_zone_of_their_plan(gateway: Gateway) -> None:
    plan = {"name": "nz", "timezone": "Pacific/Auckland", "limits": {"jobs_per_day": {"limit": 1}}}
    await gateway.admin.post("/v1/admin/plans", json=plan)
    client = await shop(gateway, plan="nz")
    assert (await submitted(gateway, client, "u1")).status_code == 202
    me = (await client.get("/v1/me", headers=acting_for("u1"))).json()
    (limit,) = me["limits"]
    assert (limit["held"], limit["resets_at"]) == (1, "2026-11-22T11:00:00.000Z")


async def test_a_client_token_of_a_user_leaves_the_keys_limits_in_their_zone(
    gateway: Gateway,
) -> None:
    await gateway.admin.post("/v1/admin/plans", json={"name": "nz", "timezone": "Pacific/Auckland"})
    scopes = ["jobs:read", "jobs:write", "tokens", "act_as"]
    client = await shop(gateway, scopes=scopes, limits={"jobs_per_day": {"limit": 1}})
    await gateway.admin.patch("/v1/admin/users/shop", json={"plan": "nz"})
    asked = {"scopes": ["jobs:read", "jobs:write"]}
    made = await client.post("/v1/client-tokens", json=asked, headers=acting_for("u1"))
    browser = gateway.client_with(made.json()["token"])
    assert (await browser.post("/v1/jobs", json=gateway.body())).status_code == 202
    (limit,) = (await browser.get("/v1/me")).json()["limits"]
    assert (limit["held"], limit["resets_at"]) == (1, "2026-11-22T11:00:00.000Z")


async def test_the_models_of_a_user_are_those_that_its_plan_and_the_key_allow(
    gateway: Gateway,
) -> None:
    plan = {"name": "two", "models": [SEEDANCE, FROM_TEXT]}
    await gateway.admin.post("/v1/admin/plans", json=plan)
    scopes = ["jobs:read", "jobs:write", "tokens", "act_as"]
    client = await shop(gateway, plan="two", scopes=scopes, models=[SEEDANCE, FROM_IMAGE])
    asked = {"scopes": ["jobs:read", "jobs:write"]}
    made = await client.post("/v1/client-tokens", json=asked, headers=acting_for("u1"))
    browser = gateway.client_with(made.json()["token"])
    for caller, headers in ((client, acting_for("u1")), (browser, {})):
        assert (await caller.get("/v1/me", headers=headers)).json()["models"] == [SEEDANCE]
        for model in (FROM_TEXT, FROM_IMAGE):
            refused = await caller.post(
                "/v1/jobs", json=gateway.body() | {"model": model}, headers=headers
            )
            assert (refused.status_code, problem(refused)["code"]) == (403, "model_not_allowed")


async def test_a_disabled_user_is_turned_away_and_its_service_is_not(gateway: Gateway) -> None:
    client = await shop(gateway)
    await submitted(gateway, client, "u1")
    await gateway.admin.patch("/v1/admin/users/shop/u1", json={"disabled": True})
    answer = await client.get("/v1/jobs", headers=acting_for("u1"))
    assert problem(answer) == {
        "status": 403,
        "code": "user_disabled",
        "detail": "The user 'u1' is disabled; an operator can enable it again.",
    }
    assert (await client.get("/v1/jobs", headers=acting_for("u2"))).status_code == 200
    await gateway.admin.patch("/v1/admin/users/shop", json={"disabled": True})
    assert (await client.get("/v1/jobs", headers=acting_for("u2"))).status_code == 401


async def test_a_user_of_a_service_cannot_have_a_service_of_its_own(gateway: Gateway) -> None:
    client = await shop(gateway)
    await client.get("/v1/me", headers=acting_for("u1"))
    key = {"user": "shop/u1", "scopes": ["act_as"]}
    answer = await gateway.admin.post("/v1/admin/keys", json=key)
    assert answer.status_code == 422
    assert [error["code"] for error in answer.json()["errors"]] == ["act_as_refused"]


async def test_a_service_that_was_deleted_just_now_leaves_no_user_behind(
    gateway: Gateway, database_url: str
) -> None:
    """The next of that name would act for it."""
    client = await shop(gateway)
    assert (await client.get("/v1/me")).status_code == 200  # the use is noted: nothing else waits
    database = SwitchedDatabase(database_url)
    auth = AuthService(database=database, clock=gateway.clock)
    sender = await auth.authenticate(client.headers["Authorization"])
    database.open.clear()
    asking = asyncio.ensure_future(auth.act(sender, name="u1"))
    try:
        async with asyncio.timeout(60):
            while not database.waiting:
                await turns()
        assert (await gateway.admin.delete("/v1/admin/users/shop")).status_code == 204
        database.open.set()
        with pytest.raises(UserGoneError):
            await asking
    finally:
        await database.close()
    users = (await gateway.admin.get("/v1/admin/users")).json()["data"]
    assert [user["id"] for user in users] == ["alice"]


async def test_who_stays_connected_for_a_user_needs_all_that_let_it_in(
    gateway: Gateway, database_url: str
) -> None:
    client = await shop(gateway)
    key = f"/v1/admin/keys/{(await client.get('/v1/me')).json()['key']}"
    auth = gateway.app.state.services.auth
    sender = await auth.authenticate(client.headers["Authorization"])
    alice = (await auth.authenticate(gateway.http.headers["Authorization"])).principal
    holder = (await auth.act(sender, name="u1")).holder(Scope.JOBS_READ)
    holders = {holder, alice.holder(Scope.JOBS_READ)}
    scopes = {"scopes": ["jobs:read", "act_as"]}
    async with opened_database(database_url) as database:
        check = AccessCheck(database=database, clock=gateway.clock)
        for path, taken, given in (
            (key, {"scopes": ["jobs:write", "act_as"]}, scopes),
            (key, {"scopes": ["jobs:read"]}, scopes),
            ("/v1/admin/users/shop", {"disabled": True}, {"disabled": False}),
            ("/v1/admin/users/shop/u1", {"disabled": True}, {"disabled": False}),
        ):
            assert (await gateway.admin.patch(path, json=taken)).is_success
            assert await check.lost(holders) == {holder}, (path, taken)
            assert (await gateway.admin.patch(path, json=given)).is_success
            assert await check.lost(holders) == set()
        assert (await gateway.admin.delete(key)).is_success
        assert await check.lost(holders) == {holder}
