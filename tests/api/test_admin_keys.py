"""Keys: made with a secret that is shown once, changed, rotated, revoked."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from app.auth.repository import AuthRepository
from app.db.engine import opened_database
from tests.support.answers import faults
from tests.support.gateway import SEEDANCE, Gateway
from tests.support.statements import recorded

pytestmark = pytest.mark.either_database

NEVER = "key_" + "0" * 26


async def made(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    answer = await gateway.admin.post("/v1/admin/keys", json={"user": "alice", **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def status_with(gateway: Gateway, key: str) -> int:
    return (await gateway.client_with(key).get("/v1/jobs")).status_code


async def test_a_key_is_made_used_read_and_listed(gateway: Gateway) -> None:
    answer = await gateway.admin.post(
        "/v1/admin/keys",
        json={
            "user": "alice",
            "name": "ci",
            "models": [SEEDANCE],
            "limits": {"jobs_per_day": {"limit": 5}},
            "expires_at": "2027-01-01T00:00:00+01:00",
        },
    )
    assert answer.status_code == 201
    key = answer.json()
    assert answer.headers["Location"] == f"/v1/admin/keys/{key['id']}"
    secret = key.pop("key")
    assert re.fullmatch(r"rcg_[0-9a-z]{26}_[\w-]{43}", secret)
    assert key == {
        "object": "key",
        "id": key["id"],
        "user": "alice",
        "user_disabled": False,
        "name": "ci",
        "scopes": ["jobs:read", "jobs:write", "files", "webhooks"],
        "models": [SEEDANCE],
        "limits": {"jobs_per_day": {"limit": 5, "mode": "enforce"}},
        "plan": None,
        "created_at": "2026-11-22T10:00:00.000Z",
        "expires_at": "2026-12-31T23:00:00.000Z",
        "previous_expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    assert await status_with(gateway, secret) == 200
    read = await gateway.admin.get(f"/v1/admin/keys/{key['id']}")
    assert read.json() == key | {"last_used_at": "2026-11-22T10:00:00.000Z"}
    for seconds, used in ((59, "10:00"), (1, "10:01")):
        gateway.wait(seconds)
        assert await status_with(gateway, secret) == 200
        later = (await gateway.admin.get(f"/v1/admin/keys/{key['id']}")).json()
        assert later["last_used_at"] == f"2026-11-22T{used}:00.000Z"
    newest = (await gateway.admin.get("/v1/admin/keys?user=alice&limit=1")).json()
    assert [each["id"] for each in newest["data"]] == [key["id"]]
    assert newest["next_cursor"]
    audit = await gateway.admin.get("/v1/admin/audit")
    assert audit.json()["data"][0]["action"] == "key.created"
    for answer in (read, audit):
        assert secret not in answer.text
        assert secret[-43:] not in answer.text


async def test_of_many_requests_at_once_hardly_one_writes_that_the_key_was_used(
    gateway: Gateway,
) -> None:
    """Once a minute, each would be a transaction, and all of them for the same row."""
    await gateway.http.get("/v1/me")
    gateway.wait(60)
    with recorded(gateway) as seen:
        await asyncio.gather(*(gateway.http.get("/v1/me") for _ in range(50)))
    writes = sum(statement.startswith("UPDATE api_keys") for each in seen for statement in each)
    assert writes in (1, 2)  # a look-up may have begun before the first was committed


async def test_a_key_tells_that_its_user_is_disabled(gateway: Gateway) -> None:
    key = await made(gateway)
    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": True})
    another = await made(gateway)
    assert another["user_disabled"] is True
    listed = (await gateway.admin.get("/v1/admin/keys?user=alice&limit=2")).json()["data"]
    assert {each["id"]: each["user_disabled"] for each in listed} == {
        key["id"]: True,
        another["id"]: True,
    }
    changed = await gateway.admin.patch(f"/v1/admin/keys/{key['id']}", json={"name": "off"})
    assert (changed.json()["name"], changed.json()["user_disabled"]) == ("off", True)


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"user": "nobody"}, "/user", "unknown_user"),
        ({"scopes": ["jobs:reed"]}, "/scopes/0", "unknown_scope"),
        ({"scopes": []}, "/scopes", "min_items"),
        ({"models": ["nope/none"]}, "/models/0", "unknown_model"),
        ({"limits": {"jobs_per_day": {"limit": "ten"}}}, "/limits/jobs_per_day/limit", "type"),
        ({"expires_at": "2026-11-22T10:00:00Z"}, "/expires_at", "in_the_past"),
        ({"expires_at": "2027-11-22T10:00:00"}, "/expires_at", "time"),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, "/expires_at", "time"),
        ({"expires_at": 1_900_000_000}, "/expires_at", "time"),
        ({"plan": "free"}, "/plan", "needs_act_as"),
        ({"plan": "free", "scopes": ["act_as"]}, "/plan", "unknown_plan"),
        ({"key": "rcg_mine"}, "/key", "unknown_field"),
    ],
)
async def test_what_a_key_cannot_be_is_named(
    gateway: Gateway, fields: Any, pointer: str, code: str
) -> None:
    answer = await gateway.admin.post("/v1/admin/keys", json={"user": "alice", **fields})
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert [(error["pointer"], error["code"]) for error in errors] == [(pointer, code)]


async def make_user_of(gateway: Gateway, database_url: str, user_id: str) -> None:
    """Make a user as the first call for it would."""
    async with opened_database(database_url) as database:
        await database.transact(
            lambda tx: AuthRepository(tx).ensure_user(user_id, at=gateway.clock.now())
        )


async def test_a_user_of_another_cannot_act_for_others(gateway: Gateway, database_url: str) -> None:
    shop = await gateway.client_of("shop")
    await make_user_of(gateway, database_url, "shop/u1")
    refused = await gateway.admin.post(
        "/v1/admin/keys", json={"user": "shop/u1", "scopes": ["jobs:read", "act_as"]}
    )
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/scopes"
    key = await made(gateway, user="shop/u1", scopes=["jobs:read"])
    refused = await gateway.admin.patch(f"/v1/admin/keys/{key['id']}", json={"scopes": ["act_as"]})
    assert refused.status_code == 422

    read = await gateway.admin.get("/v1/admin/users/shop/u1")
    assert (read.status_code, read.json()["id"]) == (200, "shop/u1")
    # The owner takes its name space along: else the next `shop` would act for these users.
    assert (await gateway.admin.delete("/v1/admin/users/shop")).status_code == 204
    assert (await gateway.admin.get("/v1/admin/users/shop/u1")).status_code == 404
    gateway.wait(2)
    for client in (shop, gateway.client_with(key["key"])):
        assert (await client.get("/v1/me")).status_code == 401


async def test_a_key_is_changed_field_by_field(gateway: Gateway) -> None:
    await gateway.admin.post("/v1/admin/plans", json={"name": "guests"})
    key = await made(gateway, name="ci", limits={"pending_jobs": {"limit": 1}})
    changes = {
        "name": "build",
        "scopes": ["act_as", "jobs:read"],
        "plan": "guests",
        "limits": {"pending_jobs": None},
        "expires_at": "2026-11-22T11:00:00.000Z",
    }
    changed = await gateway.admin.patch(f"/v1/admin/keys/{key['id']}", json=changes)
    assert changed.status_code == 200
    del key["key"]
    assert changed.json() == key | changes | {"limits": {}}
    same = await gateway.admin.patch(f"/v1/admin/keys/{key['id']}", json={"expires_at": None})
    assert same.json()["expires_at"] is None


async def test_an_expired_key_is_turned_away(gateway: Gateway) -> None:
    key = await made(gateway, expires_at="2026-11-22T10:01:00Z")
    assert await status_with(gateway, key["key"]) == 200
    gateway.wait(60)
    assert await status_with(gateway, key["key"]) == 401


async def test_a_revoked_key_ends_and_stays_in_the_list(gateway: Gateway) -> None:
    key = await made(gateway)
    path = f"/v1/admin/keys/{key['id']}"
    assert (await gateway.admin.delete(path)).status_code == 204
    gateway.wait(2)
    assert await status_with(gateway, key["key"]) == 401
    assert (await gateway.admin.get(path)).json()["revoked_at"] == "2026-11-22T10:00:00.000Z"
    assert (await gateway.admin.delete(path)).status_code == 204
    for refused in (
        await gateway.admin.patch(path, json={"name": "x"}),
        await gateway.admin.post(f"{path}/rotate", json={}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "key_revoked")
    audit = await gateway.audited()
    assert [entry["action"] for entry in audit] == ["key.revoked", "key.created"]


async def rotated(gateway: Gateway, key: dict[str, Any], **body: Any) -> httpx.Response:
    return await gateway.admin.post(f"/v1/admin/keys/{key['id']}/rotate", **body)


async def test_rotation_gives_a_new_secret_for_the_same_key(gateway: Gateway) -> None:
    key = await made(gateway)
    answer = await rotated(gateway, key, json={"overlap_seconds": 0})
    assert answer.status_code == 200
    new = answer.json()
    assert new["key"] != key["key"]
    assert {**new, "key": None} == {**key, "key": None}
    gateway.wait(2)
    assert await status_with(gateway, new["key"]) == 200
    assert await status_with(gateway, key["key"]) == 401


async def test_rotation_keeps_the_old_secret_for_a_day_unless_told_otherwise(
    gateway: Gateway,
) -> None:
    key = await made(gateway)
    by_itself = await rotated(gateway, key)
    assert by_itself.json()["previous_expires_at"] == "2026-11-23T10:00:00.000Z"
    assert await status_with(gateway, key["key"]) == 200
    assert await status_with(gateway, f"{key['key'][:-43]}{'A' * 43}") == 401
    told = await rotated(gateway, key, json={"overlap_seconds": 3600})
    assert told.json()["previous_expires_at"] == "2026-11-22T11:00:00.000Z"


@pytest.mark.parametrize("overlap", [-1, 1.5, "3600", 30 * 86_400 + 1])
async def test_an_overlap_has_bounds(gateway: Gateway, overlap: Any) -> None:
    key = await made(gateway)
    answer = await rotated(gateway, key, json={"overlap_seconds": overlap})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/overlap_seconds"]


async def test_what_is_done_to_one_key_user_or_plan_is_done_to_no_other(gateway: Gateway) -> None:
    paths, keys = {}, {}
    for name in ("one", "other"):
        await gateway.admin.post("/v1/admin/plans", json={"name": name})
        await gateway.admin.post("/v1/admin/users", json={"id": name, "plan": name})
        keys[name] = await made(gateway, user=name, plan=name, scopes=["jobs:read", "act_as"])
        own = (f"plans/{name}", f"users/{name}", f"keys/{keys[name]['id']}")
        paths[name] = [f"/v1/admin/{path}" for path in own]
    others = [(await gateway.admin.get(path)).json() for path in paths["other"]]

    assert await status_with(gateway, keys["one"]["key"]) == 200
    plan, user, key = paths["one"]
    for answer in (
        await gateway.admin.patch(plan, json={"timezone": "Asia/Tokyo"}),
        await gateway.admin.patch(user, json={"plan": None, "disabled": True}),
        await gateway.admin.patch(key, json={"name": "changed"}),
        await gateway.admin.post(f"{key}/rotate"),
        await gateway.admin.delete(key),
        await gateway.admin.delete(plan),
        await gateway.admin.delete(user),
    ):
        assert answer.is_success, answer.text
    assert [(await gateway.admin.get(path)).json() for path in paths["other"]] == others
    assert await status_with(gateway, keys["other"]["key"]) == 200
    audit = (await gateway.audited())[:7]
    assert [entry["action"] for entry in audit] == [
        *("user.deleted", "plan.deleted", "key.revoked", "key.rotated", "key.changed"),
        *("user.changed", "plan.changed"),
    ]
    assert all(entry["before"] for entry in audit)


async def test_a_change_that_breaks_a_rule_changes_nothing(gateway: Gateway) -> None:
    await gateway.admin.post("/v1/admin/plans", json={"name": "free"})
    key = await made(gateway)
    limits = {"jobs_per_day": {"limit": 5}, "jobs_per_month": {"limit": -1}}
    for own in ("plans/free", "users/alice", f"keys/{key['id']}"):
        path = f"/v1/admin/{own}"
        before = (await gateway.admin.get(path)).json()
        answer = await gateway.admin.patch(path, json={"limits": limits})
        assert faults(answer) == [("/limits/jobs_per_month/limit", "minimum")]
        assert (await gateway.admin.get(path)).json() == before


@pytest.mark.parametrize("key_id", [NEVER, "nonsense", "key_%00"])
async def test_a_key_that_is_not_there_is_not_found(gateway: Gateway, key_id: str) -> None:
    path = f"/v1/admin/keys/{key_id}"
    for answer in (
        await gateway.admin.get(path),
        await gateway.admin.patch(path, json={}),
        await gateway.admin.delete(path),
        await gateway.admin.post(f"{path}/rotate", json={}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "key_not_found")
