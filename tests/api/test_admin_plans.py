"""Plans: what operators may say about limits, and what follows from a change."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.support.answers import faults
from tests.support.gateway import SEEDANCE, Gateway

pytestmark = pytest.mark.either_database

PLAN = {
    "name": "free",
    "timezone": "Europe/Berlin",
    "default": True,
    "models": [SEEDANCE],
    "limits": {
        "jobs_per_day": {"limit": 10, "mode": "enforce"},
        "spend_usd_per_month": {"limit": "2.50", "mode": "shadow"},
        "output_seconds_per_day": {"limit": 7.5},
    },
}


async def made(gateway: Gateway, **plan: Any) -> dict[str, Any]:
    answer = await gateway.admin.post("/v1/admin/plans", json=plan)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_plan_is_made_read_listed_changed_and_deleted(gateway: Gateway) -> None:
    answer = await gateway.admin.post("/v1/admin/plans", json=PLAN)
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/v1/admin/plans/free"
    plan = answer.json()
    assert plan == {
        "object": "plan",
        "name": "free",
        "timezone": "Europe/Berlin",
        "default": True,
        "models": [SEEDANCE],
        "limits": {
            "jobs_per_day": {"limit": 10, "mode": "enforce"},
            "spend_usd_per_month": {"limit": "2.50", "mode": "shadow"},
            "output_seconds_per_day": {"limit": 7.5, "mode": "enforce"},
        },
        "created_at": "2026-11-22T10:00:00.000Z",
    }
    assert (await gateway.admin.get("/v1/admin/plans/free")).json() == plan
    listed = (await gateway.admin.get("/v1/admin/plans")).json()
    assert listed == {"object": "list", "data": [plan], "next_cursor": None}

    # alice has no plan: the default one is hers, and cannot just go.
    refused = await gateway.admin.delete("/v1/admin/plans/free")
    assert (refused.status_code, refused.json()["code"]) == (409, "plan_in_use")
    assert "make another plan the default first" in refused.json()["detail"]
    await made(gateway, name="other", default=True)
    plan["default"] = False
    assert (await gateway.admin.get("/v1/admin/plans/free")).json() == plan

    changed = await gateway.admin.patch(
        "/v1/admin/plans/free",
        json={"models": None, "limits": {"jobs_per_day": None, "pending_jobs": {"limit": 3}}},
    )
    assert changed.status_code == 200
    plan["models"] = None
    del plan["limits"]["jobs_per_day"]
    plan["limits"]["pending_jobs"] = {"limit": 3, "mode": "enforce"}
    assert changed.json() == plan

    assert (await gateway.admin.delete("/v1/admin/plans/free")).status_code == 204
    gone = await gateway.admin.get("/v1/admin/plans/free")
    assert (gone.status_code, gone.json()["code"]) == (404, "plan_not_found")
    actions = [
        (entry["actor"], entry["action"], entry["target"]) for entry in await gateway.audited()
    ]
    assert actions == [
        ("ops", "plan.deleted", "plan:free"),
        ("ops", "plan.changed", "plan:free"),
        ("ops", "plan.created", "plan:other"),
        ("ops", "plan.created", "plan:free"),
    ]


async def test_what_a_plan_may_not_say_is_named_all_at_once(gateway: Gateway) -> None:
    answer = await gateway.admin.post(
        "/v1/admin/plans",
        json={
            "name": "a/b",
            "timezone": "Europe/Berlim",
            "models": ["bytedance/seedance-1-0/pro/image-to-vide0"],
            "limits": {
                "jobs_per_dey": {"limit": 1},
                "jobs_per_day": {"limit": -1},
                "jobs_per_month": {"limit": 1.5},
                "spend_usd_per_day": {"limit": "0.0000001"},
                "spend_usd_per_month": {"limit": "1e3"},
                "concurrent_jobs": {"limit": 1, "mode": "off"},
                "pending_jobs": {"limt": 1},
                "submits_per_minute": {"limit": 1_000_001},
                "output_seconds_per_month": 5,
                "output_seconds_per_day": {"limit": True},
            },
        },
    )
    assert answer.status_code == 422
    assert {error["pointer"]: error["code"] for error in answer.json()["errors"]} == {
        "/name": "pattern",
        "/timezone": "unknown_timezone",
        "/models/0": "unknown_model",
        "/limits/jobs_per_dey": "unknown_limit",
        "/limits/jobs_per_day/limit": "minimum",
        "/limits/jobs_per_month/limit": "type",
        "/limits/spend_usd_per_day/limit": "type",
        "/limits/spend_usd_per_month/limit": "type",
        "/limits/concurrent_jobs/mode": "enum",
        "/limits/pending_jobs/limt": "unknown_field",
        "/limits/pending_jobs/limit": "required",
        "/limits/submits_per_minute/limit": "maximum",
        "/limits/output_seconds_per_month": "type",
        "/limits/output_seconds_per_day/limit": "type",
    }
    by_pointer = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert "did you mean 'jobs_per_day'?" in by_pointer["/limits/jobs_per_dey"]
    assert "did you mean 'Europe/Berlin'?" in by_pointer["/timezone"]
    assert SEEDANCE in by_pointer["/models/0"]
    assert (await gateway.admin.get("/v1/admin/plans")).json()["data"] == []
    most = {"submits_per_minute": {"limit": 10**6}, "jobs_per_day": {"limit": 10**9}}
    highest = {"name": "most", "limits": most}
    assert (await gateway.admin.post("/v1/admin/plans", json=highest)).status_code == 201


async def test_the_first_hundred_unknown_models_of_a_plan_are_named(gateway: Gateway) -> None:
    plan = {"name": "free", "models": [f"bytedance/nope-{n}" for n in range(101)]}
    answer = await gateway.admin.post("/v1/admin/plans", json=plan)
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == [f"/models/{n}" for n in range(100)]


@pytest.mark.parametrize("number", ["1e30", "1" + "0" * 30])
async def test_a_limit_that_cannot_be_reckoned_with_is_named(gateway: Gateway, number: str) -> None:
    body = f'{{"name": "x", "limits": {{"output_seconds_per_day": {{"limit": {number}}}}}}}'
    answer = await gateway.admin.post("/v1/admin/plans", content=body)
    assert faults(answer) == [("/limits/output_seconds_per_day/limit", "type")]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": "x", "color": "red"}, "/color"),
        ({"name": "x", "default": "yes"}, "/default"),
        ({"name": "x", "timezone": 1}, "/timezone"),
        ({"name": "x", "timezone": "localtime"}, "/timezone"),
        ({"name": "x", "models": "all"}, "/models"),
        ({"name": "x", "limits": []}, "/limits"),
        ({"name": 5}, "/name"),
        ([], ""),
    ],
)
async def test_a_body_of_another_shape_is_refused_by_field(
    gateway: Gateway, body: Any, pointer: str
) -> None:
    answer = await gateway.admin.post("/v1/admin/plans", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_plan_of_the_same_name_is_a_conflict(gateway: Gateway) -> None:
    await made(gateway, name="free")
    answer = await gateway.admin.post("/v1/admin/plans", json={"name": "free"})
    assert (answer.status_code, answer.json()["code"]) == (409, "plan_exists")


async def test_a_plan_of_users_or_keys_stays(gateway: Gateway) -> None:
    await made(gateway, name="team")
    await made(gateway, name="guests")
    await gateway.admin.post("/v1/admin/users", json={"id": "bob", "plan": "team"})
    key = await gateway.admin.post(
        "/v1/admin/keys", json={"user": "bob", "scopes": ["act_as"], "plan": "guests"}
    )
    for name, users, keys in (("team", 1, 0), ("guests", 0, 1)):
        refused = await gateway.admin.delete(f"/v1/admin/plans/{name}")
        assert refused.status_code == 409
        assert (refused.json()["users"], refused.json()["keys"]) == (users, keys)
        assert "PATCH" in refused.json()["detail"]
    await gateway.admin.delete(f"/v1/admin/keys/{key.json()['id']}")
    assert (await gateway.admin.delete("/v1/admin/plans/guests")).status_code == 204


async def test_the_default_plan_is_not_taken_from_users_without_one(gateway: Gateway) -> None:
    await made(gateway, name="free", default=True)
    refused = await gateway.admin.patch("/v1/admin/plans/free", json={"default": False})
    assert (refused.status_code, refused.json()["code"]) == (409, "plan_in_use")


async def test_a_users_own_plan_stands_in_for_the_default_one(gateway: Gateway) -> None:
    for plan in ("a", "m", "z"):
        await made(gateway, name=plan, default=plan == "m")
    for plan in ("a", "z"):  # whichever of the two comes first
        await gateway.admin.patch("/v1/admin/users/alice", json={"plan": plan})
        assert (await gateway.http.get("/v1/me")).json()["plan"] == plan


async def test_pages_of_plans_follow_each_other(gateway: Gateway) -> None:
    names = [f"plan-{number}" for number in range(5)]
    for name in names:
        await made(gateway, name=name)
    seen, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = (await gateway.admin.get("/v1/admin/plans", params=query)).json()
        seen += [plan["name"] for plan in page["data"]]
        cursor = page["next_cursor"]
    assert seen == names
    assert cursor is None


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "cursor=!", "cursor=AA", "colour=red", "limit=1&limit=2"],
)
async def test_a_list_refuses_what_it_does_not_know(gateway: Gateway, query: str) -> None:
    answer = await gateway.admin.get(f"/v1/admin/plans?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


async def test_a_change_that_changes_nothing_is_not_recorded(gateway: Gateway) -> None:
    await made(gateway, name="free")
    await gateway.admin.patch("/v1/admin/plans/free", json={"timezone": "UTC"})
    audit = await gateway.audited()
    assert [entry["action"] for entry in audit] == ["plan.created"]


async def test_the_audit_log_shows_before_and_after_and_pages(gateway: Gateway) -> None:
    await made(gateway, name="free", limits={"jobs_per_day": {"limit": 1}})
    gateway.clock.advance(timedelta(seconds=1))
    await gateway.admin.patch(
        "/v1/admin/plans/free", json={"limits": {"jobs_per_day": {"limit": 2}}}
    )
    first = (await gateway.admin.get("/v1/admin/audit?limit=1")).json()
    (entry,) = first["data"]
    plan = {"name": "free", "timezone": "UTC", "default": False, "models": None}
    assert entry == {
        "id": entry["id"],
        "at": "2026-11-22T10:00:01.000Z",
        "actor": "ops",
        "action": "plan.changed",
        "target": "plan:free",
        "before": plan | {"limits": {"jobs_per_day": {"limit": 1, "mode": "enforce"}}},
        "after": plan | {"limits": {"jobs_per_day": {"limit": 2, "mode": "enforce"}}},
    }
    rest = await gateway.admin.get("/v1/admin/audit", params={"cursor": first["next_cursor"]})
    assert [entry["action"] for entry in rest.json()["data"]] == [
        "plan.created",
        "key.created",  # alice's
        "user.created",
    ]
    assert rest.json()["next_cursor"] is None


async def test_a_change_of_any_plan_leaves_the_default_one_as_it_is(gateway: Gateway) -> None:
    await made(gateway, name="usual", default=True)
    await made(gateway, name="other")
    for name in ("usual", "other"):
        path = f"/v1/admin/plans/{name}"
        answer = await gateway.admin.patch(path, json={"timezone": "Asia/Tokyo"})
        assert answer.status_code == 200, answer.text
    assert (await gateway.http.get("/v1/me")).json()["plan"] == "usual"


async def test_rivals_leave_one_default_plan(gateway: Gateway) -> None:
    async def create(number: int) -> int:
        body = {"name": f"plan-{number}", "default": True}
        return (await gateway.admin.post("/v1/admin/plans", json=body)).status_code

    assert await asyncio.gather(*map(create, range(12))) == [201] * 12
    plans = (await gateway.admin.get("/v1/admin/plans")).json()["data"]
    assert sum(plan["default"] for plan in plans) == 1


async def test_rivals_make_one_plan_of_a_name(gateway: Gateway) -> None:
    async def create() -> int:
        return (await gateway.admin.post("/v1/admin/plans", json={"name": "free"})).status_code

    answers = await asyncio.gather(*[create() for _ in range(6)])
    assert sorted(answers) == [201, 409, 409, 409, 409, 409]
