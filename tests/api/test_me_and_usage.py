"""GET /v1/me and /v1/usage: what a caller may do, and what the ledger says it has used."""

import csv
import io
import threading
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fastapi import Request

from app.api.usage import usage_answer
from app.quotas.usage import Grouping, Usage
from tests.support.answers import problem
from tests.support.gateway import SEEDANCE, Gateway

pytestmark = pytest.mark.either_database

CSV = {"Accept": "text/csv"}


async def price(gateway: Gateway, usd: str) -> None:
    line = {"model": SEEDANCE, "base_price_usd": usd, "price_unit": "second"}
    answer = await gateway.admin.put("/v1/admin/prices", json={"prices": [line]})
    assert answer.status_code == 200, answer.text


async def used(gateway: Gateway, query: str = "") -> list[dict[str, Any]]:
    answer = await gateway.http.get(f"/v1/usage{query}")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


async def three_jobs(gateway: Gateway) -> None:
    """Let one of two seconds complete, one be cancelled, and one of three seconds wait."""
    await price(gateway, "0.25")
    await gateway.follow(await gateway.submit("sandbox:instant"))
    job = await gateway.submit()
    await gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
    await gateway.submit(duration=3)


SUMS = {
    "jobs": 3,
    "jobs_settled": 1,
    "jobs_released": 1,
    "output_seconds": 2,
    "output_seconds_held": 3,
    "spend_usd": "0.50",
    "spend_usd_held": "0.75",
}


async def test_a_caller_reads_who_it_is(gateway: Gateway) -> None:
    await gateway.admin.post(
        "/v1/admin/plans",
        json={
            "name": "free",
            "timezone": "Europe/Berlin",
            "models": [SEEDANCE],
            "limits": {
                "concurrent_jobs": {"limit": 2},
                "pending_jobs": {"limit": 5, "mode": "shadow"},
            },
        },
    )
    await gateway.admin.patch("/v1/admin/users/alice", json={"plan": "free"})
    bob = await gateway.client_of("bob")
    for client in (gateway.http, gateway.http, gateway.http, bob):
        await client.post("/v1/jobs", json=gateway.body("sandbox:stuck"))
    await gateway.dispatch()
    await bob.post("/v1/jobs", json=gateway.body())
    gateway.wait(5)
    await gateway.poll()
    me = (await gateway.http.get("/v1/me")).json()
    (key,) = (await gateway.admin.get("/v1/admin/keys?user=alice")).json()["data"]
    common = {"subject": "user", "held": 0, "resets_at": None}
    assert me == {
        "user": "alice",
        "key": key["id"],
        "plan": "free",
        "timezone": "Europe/Berlin",
        "scopes": ["files", "jobs:read", "jobs:write", "webhooks"],
        "models": [SEEDANCE],
        "limits": [
            {"name": "concurrent_jobs", "limit": 2, "used": 2, "remaining": 0, "mode": "enforce"}
            | common,
            {"name": "pending_jobs", "limit": 5, "used": 1, "remaining": 4, "mode": "shadow"}
            | common,
        ],
    }


async def test_an_operator_reads_how_a_users_limits_stand(gateway: Gateway) -> None:
    limits = {
        "jobs_per_day": {"limit": 9},
        "spend_usd_per_day": {"limit": "0.25", "mode": "shadow"},
    }
    await gateway.admin.post("/v1/admin/plans", json={"name": "free", "limits": limits})
    patch = {"plan": "free", "limits": {"jobs_per_day": {"limit": 5}}}
    await gateway.admin.patch("/v1/admin/users/alice", json=patch)
    await three_jobs(gateway)
    mine = (await gateway.http.get("/v1/me")).json()["limits"]
    answer = await gateway.admin.get("/v1/admin/user-limits/alice")
    assert answer.json() == {"user": "alice", "timezone": "UTC", "limits": mine}
    shown = {limit.pop("name"): limit for limit in mine}
    common = {"subject": "user", "resets_at": "2026-11-23T00:00:00.000Z"}
    assert shown["jobs_per_day"] == common | {
        "limit": 5,
        "used": 1,
        "held": 1,
        "remaining": 3,
        "mode": "enforce",
    }
    assert shown["spend_usd_per_day"]["mode"] == "shadow"

    key = {"user": "alice", "scopes": ["jobs:write", "act_as"], "plan": "free"}
    service = (await gateway.admin.post("/v1/admin/keys", json=key)).json()["key"]
    acting = {"X-Gateway-User": "u1"}
    await gateway.client_with(service).post("/v1/jobs", json=gateway.body(), headers=acting)
    of_service = (await gateway.admin.get("/v1/admin/user-limits/alice/u1")).json()
    used = [(limit["name"], limit["held"], limit["limit"]) for limit in of_service["limits"]]
    assert used == [("jobs_per_day", 1, 9), ("spend_usd_per_day", "0.50", "0.25")]
    for nobody in ("bob", "alice/u2"):
        refused = await gateway.admin.get(f"/v1/admin/user-limits/{nobody}")
        assert problem(refused)["code"] == "user_not_found"


async def test_without_a_plan_nothing_is_limited_and_no_header_sent(gateway: Gateway) -> None:
    answer = await gateway.http.get("/v1/me")
    assert (answer.json()["plan"], answer.json()["limits"]) == (None, [])
    assert "RateLimit" not in answer.headers
    assert "RateLimit-Policy" not in answer.headers


async def test_the_limits_of_a_key_are_told_where_its_user_has_none(gateway: Gateway) -> None:
    for most in (1, 2):
        limits = {"jobs_per_day": {"limit": most}}
        made = await gateway.admin.post("/v1/admin/keys", json={"user": "alice", "limits": limits})
        answer = await gateway.client_with(made.json()["key"]).get("/v1/me")
        (limit,) = answer.json()["limits"]
        assert (limit["name"], limit["subject"]) == ("jobs_per_day", "key")
        assert answer.headers["RateLimit"] == f'"jobs_per_day";r={most};t=50400'


async def test_reads_and_refusals_tell_what_is_left(gateway: Gateway) -> None:
    limits = {"jobs_per_day": {"limit": 1}, "spend_usd_per_day": {"limit": "0.75"}}
    await price(gateway, "0.25")
    await gateway.admin.patch("/v1/admin/users/alice", json={"limits": limits})
    await gateway.submit()
    key = {"user": "alice", "scopes": ["jobs:read", "act_as"]}
    service = (await gateway.admin.post("/v1/admin/keys", json=key)).json()["key"]
    expected = '"jobs_per_day";r=0;t=50400, "spend_usd_per_day";r=25;t=50400'
    for answer in (
        await gateway.http.get("/v1/jobs"),
        await gateway.http.get("/v1/jobs/nope"),
        await gateway.http.post("/v1/jobs", json=gateway.body()),
        await gateway.http.post("/v1/jobs", json={}),
        await gateway.http.get("/v1/jobs", headers={"X-Gateway-User": "u1"}),
        await gateway.client_with(service).get("/v1/jobs", headers={"X-Gateway-User": "no id"}),
    ):
        assert answer.headers["RateLimit"] == expected, answer.text
        policy = '"jobs_per_day";q=1;w=86400, "spend_usd_per_day";q=75;w=86400'
        assert answer.headers["RateLimit-Policy"] == policy
    stranger = await gateway.client_with("rcg_nobody").get("/v1/jobs")
    assert stranger.status_code == 401
    assert "RateLimit" not in stranger.headers


async def test_what_is_left_is_told_by_reads_as_of_a_second_ago_and_by_writes_as_of_now(
    gateway: Gateway,
) -> None:
    limits = {"jobs_per_day": {"limit": 3}}
    await gateway.admin.patch("/v1/admin/users/alice", json={"limits": limits})
    await gateway.http.get("/v1/jobs")
    await gateway.submit()
    gateway.wait(1)
    read = await gateway.http.get("/v1/jobs")
    assert read.headers["RateLimit"] == '"jobs_per_day";r=2;t=50399'
    await gateway.submit()
    refused = await gateway.http.post("/v1/jobs", json={})
    assert refused.headers["RateLimit"] == '"jobs_per_day";r=1;t=50399'


async def test_use_is_told_by_day(gateway: Gateway) -> None:
    await three_jobs(gateway)
    answer = await gateway.http.get("/v1/usage")
    assert (answer.json()["object"], answer.json()["timezone"]) == ("usage", "UTC")
    assert await used(gateway) == [{"day": "2026-11-22", **SUMS}]
    gateway.wait(86_400)
    await gateway.submit()
    assert [(row["day"], row["jobs"]) for row in await used(gateway)] == [
        ("2026-11-22", 3),
        ("2026-11-23", 1),
    ]
    assert [row["day"] for row in await used(gateway, "?from=2026-11-23")] == ["2026-11-23"]
    assert [row["day"] for row in await used(gateway, "?to=2026-11-23")] == ["2026-11-22"]
    instants = "?from=2026-11-23T11:00:00%2B01:00&to=2026-11-24T00:00:00Z"
    assert [row["day"] for row in await used(gateway, instants)] == ["2026-11-23"]


async def test_use_is_grouped_as_asked(gateway: Gateway) -> None:
    await three_jobs(gateway)
    (key,) = (await gateway.admin.get("/v1/admin/keys?user=alice")).json()["data"]
    assert await used(gateway, "?group_by=model,key") == [
        {"model": SEEDANCE, "key": key["id"], **SUMS}
    ]
    assert await used(gateway, "?group_by=") == [SUMS]


async def test_days_are_those_of_the_plans_zone(gateway: Gateway) -> None:
    await gateway.admin.post("/v1/admin/plans", json={"name": "nz", "timezone": "Pacific/Auckland"})
    await gateway.admin.patch("/v1/admin/users/alice", json={"plan": "nz"})
    await gateway.submit()
    gateway.wait(3600)  # midnight in Auckland
    await gateway.submit()
    assert [row["day"] for row in await used(gateway)] == ["2026-11-22", "2026-11-23"]
    assert [row["day"] for row in await used(gateway, "?from=2026-11-23")] == ["2026-11-23"]


async def test_a_file_has_the_same_rows(gateway: Gateway) -> None:
    await three_jobs(gateway)
    answer = await gateway.http.get("/v1/usage?group_by=day,model", headers=CSV)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="usage.csv"'
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row == {
        "day": "2026-11-22",
        "model": SEEDANCE,
        **{name: str(value) for name, value in SUMS.items()},
    }
    for accept, kind in (
        ("TEXT/CSV", "text/csv"),
        ("application/json;q=0.4, text/csv;q=0.5", "text/csv"),
        ("application/json, */*", "application/json"),
    ):
        preferred = await gateway.http.get("/v1/usage", headers={"Accept": accept})
        assert preferred.headers["Content-Type"].startswith(kind), accept
    empty = await gateway.http.get("/v1/usage?to=2026-11-02", headers=CSV)
    assert empty.text.splitlines() == [",".join(["day", *SUMS])]


async def test_nobody_sees_anothers_use(gateway: Gateway) -> None:
    await three_jobs(gateway)
    bob = await gateway.client_of("bob")
    assert (await bob.get("/v1/usage")).json()["data"] == []


async def test_operators_see_everybodys_use(gateway: Gateway) -> None:
    await three_jobs(gateway)
    bob = await gateway.client_of("bob")
    await bob.post("/v1/jobs", json=gateway.body())
    answer = await gateway.admin.get("/v1/admin/usage?group_by=user")
    assert [(row["user"], row["jobs"]) for row in answer.json()["data"]] == [
        ("alice", 3),
        ("bob", 1),
    ]
    answer = await gateway.admin.get("/v1/admin/usage?group_by=user&user=bob", headers=CSV)
    assert [row["user"] for row in csv.DictReader(io.StringIO(answer.text))] == ["bob"]
    for wrong in ("user=b%00b", "users=bob"):  # else it would be the sum of all
        refused = await gateway.admin.get(f"/v1/admin/usage?{wrong}")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("group_by=week", "group_by"),
        ("group_by=user", "group_by"),
        ("group_by=day,day", "group_by"),
        ("group_by=day,", "group_by"),
        ("from=yesterday", "from"),
        ("from=2026-13-01", "from"),
        ("from=2026-11-22T10:00:00", "from"),
        ("to=9999-12-31T23:59:59-14:00", "to"),
        ("from=0001-01-01T00:00:00%2B14:00", "from"),
        ("from=0001-01-01&to=0001-01-02", "from"),
        ("from=9999-12-30&to=9999-12-31", "from"),
        ("from=2026-11-22&to=2026-11-21", "from"),
        ("from=2020-01-01", "from"),
        ("from=%00", "from"),
        ("since=2026-11-01", "since"),
        ("from=2026-11-01&from=2026-11-02", "from"),
    ],
)
async def test_a_wrong_parameter_is_named(gateway: Gateway, query: str, name: str) -> None:
    answer = await gateway.http.get(f"/v1/usage?{query}")
    body = problem(answer)
    assert (body["status"], body["code"], body["parameter"]) == (422, "invalid_parameter", name)


async def test_use_needs_the_scope_to_read(gateway: Gateway) -> None:
    key = {"user": "alice", "scopes": ["jobs:write"]}
    client = gateway.client_with(
        (await gateway.admin.post("/v1/admin/keys", json=key)).json()["key"]
    )
    assert (await client.get("/v1/usage")).status_code == 403
    assert (await client.get("/v1/me")).status_code == 200


class Watched(list[Usage]):
    """Notes which thread goes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen_by: set[threading.Thread] = set()

    def __iter__(self) -> Iterator[Usage]:
        self.seen_by.add(threading.current_thread())
        return super().__iter__()


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
async def test_sums_are_written_beside_the_event_loop(accept: str) -> None:
    """With one for each of 20,000 users all others would wait for more than half a second."""
    rows = Watched()
    request = Request({"type": "http", "headers": [(b"accept", accept.encode())]})
    await usage_answer(rows, request=request, zone=ZoneInfo("UTC"), groups=[Grouping.USER])
    assert rows.seen_by
    assert threading.current_thread() not in rows.seen_by
