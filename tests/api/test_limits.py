"""Limits: what is refused, what is counted, and what a caller is told of both."""

import asyncio
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from app.db.engine import open_database
from app.quotas import ledger
from app.quotas.policy import Limit, LimitName, Policy
from app.quotas.standings import Caller
from tests.support.gateway import SEEDANCE, Gateway
from tests.support.statements import recorded
from tests.support.switched_database import SwitchedDatabase


async def limit(gateway: Gateway, **limits: Any) -> None:
    """Put alice under these limits, enforced."""
    answer = await gateway.admin.patch(
        "/v1/admin/users/alice", json={"limits": {n: {"limit": v} for n, v in limits.items()}}
    )
    assert answer.status_code == 200, answer.text


async def price(gateway: Gateway, usd: str, *, model: str = SEEDANCE, per: str = "second") -> None:
    line = {"model": model, "base_price_usd": usd, "price_unit": per}
    answer = await gateway.admin.put("/v1/admin/prices", json={"prices": [line]})
    assert answer.status_code == 200, answer.text


async def standing(gateway: Gateway, name: str) -> dict[str, Any]:
    me = (await gateway.http.get("/v1/me")).json()
    (found,) = [limit for limit in me["limits"] if limit["name"] == name]
    return dict(found)


async def all_is_well(gateway: Gateway) -> None:
    answer = await gateway.admin.get("/v1/admin/invariants")
    assert answer.json() == {"ok": True, "violations": []}


async def test_the_job_after_the_last_of_the_day_is_refused_as_a_problem(gateway: Gateway) -> None:
    await limit(gateway, jobs_per_day=2)
    await gateway.submit()
    await gateway.submit()
    refused = await gateway.http.post("/v1/jobs", json=gateway.body())
    body = refused.json()
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == str(14 * 3600)
    assert {name: body[name] for name in ("code", "limit", "limit_value", "used", "held")} == {
        "code": "quota_exceeded",
        "limit": "jobs_per_day",
        "limit_value": 2,
        "used": 0,
        "held": 2,
    }
    assert (body["requested"], body["remaining"]) == (1, 0)
    assert body["resets_at"] == "2026-11-23T00:00:00.000Z"
    await all_is_well(gateway)

    gateway.wait(14 * 3600)
    await gateway.submit()
    assert (await standing(gateway, "jobs_per_day"))["held"] == 1


async def test_of_several_limits_the_one_that_lasts_longest_is_named(gateway: Gateway) -> None:
    await limit(gateway, submits_per_minute=1, jobs_per_day=1, jobs_per_month=1, pending_jobs=1)
    await gateway.submit()
    refused = await gateway.http.post("/v1/jobs", json=gateway.body())
    assert (refused.status_code, refused.json()["limit"]) == (429, "jobs_per_month")
    assert refused.headers["Retry-After"] == str((8 * 24 + 14) * 3600)


async def test_a_hold_becomes_use_when_the_job_completes(gateway: Gateway) -> None:
    await price(gateway, "0.10")
    await limit(gateway, spend_usd_per_month="1.00", output_seconds_per_day=60, jobs_per_day=5)
    job = await gateway.submit("sandbox:instant", duration=5)
    assert job["cost"] == {"amount_usd": "0.50", "output_seconds": 5, "state": "held"}
    assert await standing(gateway, "spend_usd_per_month") == {
        "name": "spend_usd_per_month",
        "subject": "user",
        "limit": "1.00",
        "used": "0.00",
        "held": "0.50",
        "remaining": "0.50",
        "resets_at": "2026-12-01T00:00:00.000Z",
        "mode": "enforce",
    }
    done = await gateway.follow(job)
    assert done["cost"]["state"] == "settled"
    spent = await standing(gateway, "spend_usd_per_month")
    assert (float(spent["used"]), float(spent["held"])) == (0.5, 0)
    assert (await standing(gateway, "output_seconds_per_day"))["used"] == 5
    await all_is_well(gateway)


@pytest.mark.parametrize("words", ["sandbox:fail", "sandbox:submit-422"])
async def test_a_job_that_comes_to_nothing_frees_its_hold(gateway: Gateway, words: str) -> None:
    await price(gateway, "0.10")
    await limit(gateway, spend_usd_per_day="0.20", jobs_per_day=1)
    failed = await gateway.follow(await gateway.submit(words))
    assert (failed["status"], failed["cost"]["state"]) == ("failed", "released")
    await gateway.submit()
    await all_is_well(gateway)


async def test_a_cancelled_job_frees_its_hold(gateway: Gateway) -> None:
    await limit(gateway, jobs_per_day=1)
    job = await gateway.submit()
    answer = await gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.json()["job"]["cost"]["state"] == "released"
    await gateway.submit()
    await all_is_well(gateway)


@pytest.mark.parametrize(("words", "completed"), [("sandbox:instant", 1), ("sandbox:fail", 0)])
async def test_a_hold_ends_in_the_window_that_it_was_made_in(
    gateway: Gateway, words: str, completed: int
) -> None:
    await limit(gateway, jobs_per_day=5, jobs_per_month=5)
    yesterdays = await gateway.submit(words)
    gateway.wait(14 * 3600)
    await gateway.submit("sandbox:stuck")
    await gateway.follow(yesterdays)
    day, month = [await standing(gateway, name) for name in ("jobs_per_day", "jobs_per_month")]
    assert [(each["used"], each["held"]) for each in (day, month)] == [(0, 1), (completed, 1)]
    (today,) = (await gateway.http.get("/v1/usage?from=2026-11-23")).json()["data"]
    assert (today["jobs"], today["jobs_settled"], today["jobs_released"]) == (1, 0, 0)
    await all_is_well(gateway)


async def test_an_unknown_price_never_counts_as_zero(gateway: Gateway) -> None:
    await limit(gateway, spend_usd_per_day="100")
    refused = await gateway.http.post("/v1/jobs", json=gateway.body())
    assert (refused.status_code, refused.json()["code"]) == (422, "price_unknown")
    await price(gateway, "0.10")
    gateway.wait(2)
    await gateway.submit()


@pytest.mark.parametrize("whose", ["user", "key"])
@pytest.mark.parametrize(
    ("name", "mode", "refusal"),
    [
        ("spend_usd_per_day", "enforce", "price_unknown"),
        ("output_seconds_per_month", "enforce", "duration_unknown"),
        ("spend_usd_per_day", "shadow", None),
        ("output_seconds_per_month", "shadow", None),
        ("jobs_per_day", "enforce", None),
        ("pending_jobs", "enforce", None),
    ],
)
async def test_a_job_of_unknown_size_is_refused_where_a_limit_is_on_that_size(
    gateway: Gateway, whose: str, name: str, mode: str, refusal: str | None
) -> None:
    limits, client = {name: {"limit": 9, "mode": mode}}, gateway.http
    if whose == "user":
        await gateway.admin.patch("/v1/admin/users/alice", json={"limits": limits})
    else:
        made = await gateway.admin.post("/v1/admin/keys", json={"user": "alice", "limits": limits})
        client = gateway.client_with(made.json()["key"])
    body = {"model": "blackforestlabs/flux-3/text-to-video", "input": {"prompt": "a fox"}}
    answer = await client.post("/v1/jobs", json=body)
    expected = (422, refusal) if refusal else (202, None)
    assert (answer.status_code, answer.json().get("code")) == expected, answer.text


async def test_a_price_per_output_counts_all_that_are_asked_for(gateway: Gateway) -> None:
    model = "google/nano-banana-2/text-to-image"
    await price(gateway, "0.05", model=model, per="output")
    await limit(gateway, spend_usd_per_day="0.20")
    gateway.wait(2)
    body = {"model": model, "input": {"prompt": "four foxes", "num_images": 4}}
    accepted = await gateway.http.post("/v1/jobs", json=body)
    assert (accepted.status_code, accepted.json()["cost"]["amount_usd"]) == (202, "0.20")
    body["input"] = {"prompt": "a fox"}
    assert (await gateway.http.post("/v1/jobs", json=body)).status_code == 429


async def test_a_refused_request_consumes_nothing_of_any_limit(gateway: Gateway) -> None:
    await limit(gateway, submits_per_minute=5, jobs_per_day=9, output_seconds_per_day=3)
    await gateway.submit()
    for _ in range(3):
        refused = await gateway.http.post("/v1/jobs", json=gateway.body())
        assert refused.json()["limit"] == "output_seconds_per_day"
    assert (await standing(gateway, "jobs_per_day"))["held"] == 1
    assert (await standing(gateway, "submits_per_minute"))["remaining"] == 4


async def test_submits_per_minute_refill_evenly(gateway: Gateway) -> None:
    await limit(gateway, submits_per_minute=6)
    for _ in range(6):
        await gateway.submit()
    refused = await gateway.http.post("/v1/jobs", json=gateway.body())
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
    checked = await gateway.http.post("/v1/jobs/validate", json=gateway.body())
    assert checked.json()["code"] == "quota_exceeded"
    gateway.wait(10)
    await gateway.submit()
    refused = await gateway.http.post("/v1/jobs", json=gateway.body())
    assert refused.status_code == 429


async def test_a_refused_request_binds_no_idempotency_key(gateway: Gateway) -> None:
    await limit(gateway, pending_jobs=1)
    first = await gateway.submit()
    body, key = gateway.body(), {"Idempotency-Key": "a"}
    refused = await gateway.http.post("/v1/jobs", json=body, headers=key)
    assert (refused.status_code, refused.json()["limit"]) == (429, "pending_jobs")
    assert (refused.json()["used"], refused.json()["requested"]) == (1, 1)
    await gateway.http.post(f"/v1/jobs/{first['id']}/cancel")
    accepted = await gateway.http.post("/v1/jobs", json=body, headers=key)
    assert accepted.status_code == 202
    replayed = await gateway.http.post("/v1/jobs", json=body, headers=key)
    assert (replayed.status_code, replayed.json()["id"]) == (200, accepted.json()["id"])


async def test_what_a_shadow_limit_found_of_no_job_is_not_logged(
    gateway: Gateway, database_url: str
) -> None:
    """A transaction may come to nothing, or be tried again."""
    never = {LimitName.JOBS_PER_DAY: Limit(limit=Decimal(0), mode="shadow")}
    policy = Policy(zone=ZoneInfo("UTC"), user=never, key={})
    claim = ledger.Claim(
        job_id="job_x",
        caller=Caller(policy=policy, user_id="alice", key_id="key_x"),
        model=SEEDANCE,
        output_seconds=None,
        price_usd=None,
    )
    at = gateway.clock.now()

    async def come_to_nothing(tx: AsyncConnection) -> None:
        held = await ledger.hold_all(tx, [claim], unknown_since=at, at=at)
        assert not held.refused
        raise LookupError

    database = open_database(database_url)
    with capture_logs() as logs:
        with pytest.raises(LookupError):
            await database.transact(come_to_nothing)
        assert logs == []
        limits = {"limits": {"jobs_per_day": {"limit": 0, "mode": "shadow"}}}
        await gateway.admin.patch("/v1/admin/users/alice", json=limits)
        job = await gateway.submit()
    await database.close()
    (told,) = [line for line in logs if line["event"] == "limit.would_refuse"]
    assert (told["job_id"], told["limit"], told["account"]) == (
        job["id"],
        "jobs_per_day",
        "user:alice",
    )


async def test_a_shadow_limit_counts_and_refuses_nobody(gateway: Gateway) -> None:
    shadow = {"limits": {"jobs_per_day": {"limit": 1, "mode": "shadow"}}}
    await gateway.admin.patch("/v1/admin/users/alice", json=shadow)
    await gateway.submit()
    await gateway.submit()
    shown = await standing(gateway, "jobs_per_day")
    assert (shown["mode"], shown["held"], shown["remaining"]) == ("shadow", 2, 0)

    gateway.wait(60)
    last = await gateway.submit()
    findings = "/v1/admin/shadow-findings"
    (found,) = (await gateway.admin.get(findings, params={"user": "alice"})).json()["data"]
    assert (found["user"], found["account"], found["limit"]) == (
        "alice",
        "user:alice",
        "jobs_per_day",
    )
    assert (found["count"], found["last_job"], found["last_at"]) == (
        2,
        last["id"],
        last["created_at"],
    )
    gateway.wait(24 * 3600)
    for _ in range(2):
        await gateway.submit()
    first = (await gateway.admin.get(findings, params={"limit": 1})).json()
    assert (first["data"][0]["day"] > found["day"], first["data"][0]["count"]) == (True, 1)
    after = {"limit": 1, "cursor": first["next_cursor"]}
    rest = (await gateway.admin.get(findings, params=after)).json()
    assert (rest["data"], rest["next_cursor"]) == ([found], None)
    assert (await gateway.admin.get(findings, params={"user": "bob"})).json()["data"] == []
    assert (await gateway.admin.get(findings, params={"cursor": "x"})).status_code == 422


async def test_a_shadow_rate_refuses_no_check_of_a_job(gateway: Gateway) -> None:
    shadow = {"limits": {"submits_per_minute": {"limit": 1, "mode": "shadow"}}}
    await gateway.admin.patch("/v1/admin/users/alice", json=shadow)
    for _ in range(2):
        checked = await gateway.http.post("/v1/jobs/validate", json=gateway.body())
        assert checked.status_code == 200


async def test_however_many_jobs_a_shadow_limit_finds_at_once_they_are_counted_once(
    gateway: Gateway,
) -> None:
    """Else a limit that refuses nobody makes everybody wait, with the accounts locked."""
    shadow = {name: {"limit": 0, "mode": "shadow"} for name in ("jobs_per_day", "jobs_per_month")}
    await gateway.admin.patch("/v1/admin/users/alice", json={"limits": shadow})
    with recorded(gateway) as seen:
        posts = (gateway.http.post("/v1/jobs", json=gateway.body()) for _ in range(20))
        answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {202}
    for transaction in seen:
        assert sum("shadow_findings" in statement for statement in transaction) <= 1
    found = (await gateway.admin.get("/v1/admin/shadow-findings")).json()["data"]
    assert [(each["limit"], each["count"]) for each in found] == [
        ("jobs_per_month", 20),
        ("jobs_per_day", 20),
    ]


@pytest.mark.parametrize("name", ["jobs_per_day", "pending_jobs"])
async def test_the_tighter_limit_of_a_key_counts(gateway: Gateway, name: str) -> None:
    await limit(gateway, jobs_per_day=10)
    tight = {"user": "alice", "name": "tight", "limits": {name: {"limit": 1}}}
    key = (await gateway.admin.post("/v1/admin/keys", json=tight)).json()["key"]
    client = gateway.client_with(key)
    assert (await client.post("/v1/jobs", json=gateway.body())).status_code == 202
    refused = await client.post("/v1/jobs", json=gateway.body())
    assert refused.status_code == 429
    assert f"limit {name} of your key" in refused.json()["detail"]
    await gateway.submit()


async def test_every_answer_tells_what_is_left(gateway: Gateway) -> None:
    await limit(gateway, jobs_per_day=3, submits_per_minute=10, concurrent_jobs=7, pending_jobs=9)
    await gateway.submit("sandbox:stuck")
    await gateway.dispatch()
    gateway.wait(6)
    answer = await gateway.http.post("/v1/jobs", json=gateway.body())
    assert answer.headers["RateLimit"] == (
        '"jobs_per_day";r=1;t=50394, "submits_per_minute";r=9;t=6,'
        ' "concurrent_jobs";r=6, "pending_jobs";r=8'
    )
    assert answer.headers["RateLimit-Policy"] == (
        '"jobs_per_day";q=3;w=86400, "submits_per_minute";q=10;w=60,'
        ' "concurrent_jobs";q=7, "pending_jobs";q=9'
    )


async def test_a_limit_of_user_and_key_is_told_once_as_it_will_refuse(gateway: Gateway) -> None:
    await limit(gateway, jobs_per_day=3, jobs_per_month=9)
    limits = {
        "jobs_per_day": {"limit": 1, "mode": "shadow"},
        "jobs_per_month": {"limit": 2},
        "pending_jobs": {"limit": 1, "mode": "shadow"},  # and what refuses nothing is no limit
    }
    key = (
        await gateway.admin.post("/v1/admin/keys", json={"user": "alice", "limits": limits})
    ).json()
    client = gateway.client_with(key["key"])
    gateway.wait(0.5)
    answer = await client.post("/v1/jobs", json=gateway.body())
    assert (
        answer.headers["RateLimit"] == '"jobs_per_day";r=2;t=50400, "jobs_per_month";r=1;t=741600'
    )
    assert answer.headers["RateLimit-Policy"] == (
        '"jobs_per_day";q=3;w=86400, "jobs_per_month";q=2;w=2592000'
    )
    shown = (await client.get("/v1/me")).json()["limits"]
    assert [(each["name"], each["subject"], each["mode"], each["remaining"]) for each in shown] == [
        ("jobs_per_day", "user", "enforce", 2),
        ("jobs_per_month", "key", "enforce", 1),
        ("pending_jobs", "key", "shadow", 0),
    ]


async def test_what_was_done_is_answered_though_its_limits_cannot_be_read(
    gateway: Gateway, database_url: str
) -> None:
    await limit(gateway, jobs_per_day=3)
    database = SwitchedDatabase(database_url)
    database.away = True
    gateway.app.state.services.quotas._database = database  # noqa: SLF001 - it takes its place
    done = await gateway.http.post("/v1/webhook-secret/rotate")
    assert (done.status_code, "RateLimit" in done.headers) == (200, False)
    await database.close()


LIMITED = 10


@pytest.mark.sqlite_alone  # on Postgres they come to three replicas: tests/stream/test_replicas.py
@pytest.mark.parametrize(
    ("name", "rivals"),
    [
        ("jobs_per_day", 500),
        ("submits_per_minute", 500),  # a rate, counted in a way of its own
        ("jobs_per_month", 100),
        ("output_seconds_per_day", 100),
        ("output_seconds_per_month", 100),
        ("spend_usd_per_day", 100),
        ("spend_usd_per_month", 100),
        ("pending_jobs", 100),
    ],
)
async def test_a_limit_of_ten_admits_ten_of_its_rivals(
    gateway: Gateway, name: str, rivals: int
) -> None:
    await price(gateway, "0.50")  # a job of two seconds costs a dollar
    await limit(gateway, **{name: LIMITED * 2 if "seconds" in name else LIMITED})
    answers = await asyncio.gather(
        *(gateway.http.post("/v1/jobs", json=gateway.body()) for _ in range(rivals))
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [202] * LIMITED + [429] * (rivals - LIMITED)
    assert {refusal.json()["limit"] for refusal in refusals(answers)} == {name}
    await all_is_well(gateway)


def refusals(answers: list[httpx.Response]) -> list[httpx.Response]:
    return [answer for answer in answers if answer.status_code == 429]
