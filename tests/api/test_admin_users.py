"""Users: made, changed, and erased with all that is theirs."""

from typing import Any

import pytest

from tests.support.gateway import Gateway

pytestmark = pytest.mark.either_database


async def made(gateway: Gateway, **user: Any) -> dict[str, Any]:
    answer = await gateway.admin.post("/v1/admin/users", json=user)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_user_is_made_read_listed_changed_and_erased(gateway: Gateway) -> None:
    await gateway.admin.post("/v1/admin/plans", json={"name": "free"})
    answer = await gateway.admin.post(
        "/v1/admin/users",
        json={
            "id": "bob@example.com",
            "name": "Bob",
            "plan": "free",
            "limits": {"spend_usd_per_day": {"limit": 1.25}},
        },
    )
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/v1/admin/users/bob@example.com"
    user = answer.json()
    assert user == {
        "object": "user",
        "id": "bob@example.com",
        "name": "Bob",
        "plan": "free",
        "limits": {"spend_usd_per_day": {"limit": "1.25", "mode": "enforce"}},
        "disabled": False,
        "created_at": "2026-11-22T10:00:00.000Z",
    }
    assert (await gateway.admin.get("/v1/admin/users/bob@example.com")).json() == user
    everyone = (await gateway.admin.get("/v1/admin/users")).json()["data"]
    assert [each["id"] for each in everyone] == ["alice", "bob@example.com"]
    of_plan = (await gateway.admin.get("/v1/admin/users?plan=free")).json()["data"]
    assert of_plan == [user]

    changed = await gateway.admin.patch(
        "/v1/admin/users/bob@example.com",
        json={
            "name": None,
            "plan": None,
            "limits": {"spend_usd_per_day": None, "jobs_per_day": {"limit": 0}},
            "disabled": True,
        },
    )
    assert changed.json() == user | {
        "name": None,
        "plan": None,
        "limits": {"jobs_per_day": {"limit": 0, "mode": "enforce"}},
        "disabled": True,
    }
    assert (await gateway.admin.delete("/v1/admin/users/bob@example.com")).status_code == 204
    gone = await gateway.admin.get("/v1/admin/users/bob@example.com")
    assert (gone.status_code, gone.json()["code"]) == (404, "user_not_found")


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"id": "shop/u1"}, "/id", "invalid_user_id"),
        ({"id": "oidc"}, "/id", "invalid_user_id"),
        ({"id": ""}, "/id", "invalid_user_id"),
        ({"id": "a" * 129}, "/id", "invalid_user_id"),
        ({"id": "bob", "plan": "fre"}, "/plan", "unknown_plan"),
        (
            {"id": "bob", "limits": {"jobs_per_hour": {"limit": 1}}},
            "/limits/jobs_per_hour",
            "unknown_limit",
        ),
        ({"id": "bob", "disabled": 1}, "/disabled", "type"),
        ({"id": "bob\0"}, "/id", "invalid_text"),
        ({"id": "bob", "email": "b@x"}, "/email", "unknown_field"),
    ],
)
async def test_what_a_user_cannot_be_is_named(
    gateway: Gateway, body: Any, pointer: str, code: str
) -> None:
    answer = await gateway.admin.post("/v1/admin/users", json=body)
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert [(error["pointer"], error["code"]) for error in errors] == [(pointer, code)]


async def test_a_user_of_the_same_id_is_a_conflict(gateway: Gateway) -> None:
    answer = await gateway.admin.post("/v1/admin/users", json={"id": "alice"})
    assert (answer.status_code, answer.json()["code"]) == (409, "user_exists")


@pytest.mark.parametrize("user_id", ["nobody", "shop/nobody", "a%00b", "%F0%9F%92%A9", "a/b/c"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_nobody_is_not_found(gateway: Gateway, method: str, user_id: str) -> None:
    json = {"name": "x"} if method == "PATCH" else None
    answer = await gateway.admin.request(method, f"/v1/admin/users/{user_id}", json=json)
    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")


async def test_a_disabled_user_is_turned_away_and_let_in_again(gateway: Gateway) -> None:
    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": True})
    gateway.wait(2)
    assert (await gateway.http.get("/v1/jobs")).status_code == 401
    await gateway.admin.patch("/v1/admin/users/alice", json={"disabled": False})
    gateway.wait(2)
    assert (await gateway.http.get("/v1/jobs")).status_code == 200


async def test_a_user_with_a_live_job_stays(gateway: Gateway) -> None:
    job = await gateway.submit()
    refused = await gateway.admin.delete("/v1/admin/users/alice")
    assert (refused.status_code, refused.json()["code"]) == (409, "user_has_live_jobs")
    assert refused.json()["jobs"] == 1
    assert "cancel them or wait" in refused.json()["detail"]
    assert (await gateway.read(job))["status"] == "pending"


async def test_an_erased_user_leaves_no_job_and_no_key(gateway: Gateway) -> None:
    order: dict[str, Any] = {"json": gateway.body(), "headers": {"Idempotency-Key": "order-1"}}
    answer = await gateway.http.post("/v1/jobs", **order)
    await gateway.http.post(f"/v1/jobs/{answer.json()['id']}/cancel")
    alicia = await gateway.client_of("alicia")
    hers = await alicia.post("/v1/jobs", **order)
    assert (await gateway.admin.delete("/v1/admin/users/alice")).status_code == 204
    gateway.wait(2)
    assert (await gateway.http.get("/v1/jobs")).status_code == 401
    entry = (await gateway.audited())[0]
    assert (entry["action"], entry["target"]) == ("user.deleted", "user:alice")
    assert entry["after"] == {"erased": {"users": 1, "keys": 1, "jobs": 1}}

    replayed = await alicia.post("/v1/jobs", **order)
    assert (replayed.status_code, replayed.json()["id"]) == (200, hers.json()["id"])
    # Whoever gets the id next finds nothing.
    again = await gateway.client_of("alice")
    assert (await again.get("/v1/jobs")).json()["data"] == []
    users = (await gateway.admin.get("/v1/admin/users")).json()["data"]
    assert [user["id"] for user in users] == ["alice", "alicia"]
