"""The waiting line: who waits, who is next, and what ends while it waits."""

import asyncio
import itertools
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway, Sandbox, running

pytestmark = pytest.mark.either_database

STUCK = "sandbox:queue=0 sandbox:stuck"


async def limit(gateway: Gateway, user: str = "alice", **limits: int) -> None:
    answer = await gateway.admin.patch(
        f"/v1/admin/users/{user}", json={"limits": {n: {"limit": v} for n, v in limits.items()}}
    )
    assert answer.status_code == 200, answer.text


async def submit(
    gateway: Gateway, client: httpx.AsyncClient | None = None, words: str = STUCK, **fields: Any
) -> dict[str, Any]:
    answer = await (client or gateway.http).post("/v1/jobs", json=gateway.body(words) | fields)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def in_flight(gateway: Gateway, user: str | None = None) -> list[str]:
    query = {"status": "in_queue,in_progress", "limit": "100"} | ({"user": user} if user else {})
    answer = await gateway.admin.get("/v1/admin/jobs", params=query)
    return sorted(job["id"] for job in answer.json()["data"])


async def end(gateway: Gateway, job_id: str) -> None:
    assert (await gateway.admin.post(f"/v1/admin/jobs/{job_id}/fail")).status_code == 200


async def standing(gateway: Gateway) -> tuple[int, int]:
    """Return what alice's one limit has used and has left."""
    (limit,) = (await gateway.http.get("/v1/me")).json()["limits"]
    return limit["used"], limit["remaining"]


async def all_is_well(gateway: Gateway) -> None:
    answer = await gateway.admin.get("/v1/admin/invariants")
    assert answer.json() == {"ok": True, "violations": []}


async def test_jobs_beyond_the_limit_wait_and_all_run_in_the_end(gateway: Gateway) -> None:
    await limit(gateway, concurrent_jobs=2)
    jobs = [await submit(gateway, words="sandbox:queue=0 sandbox:slow=3") for _ in range(5)]
    most = 0
    for _ in range(60):
        await gateway.dispatch()
        most = max(most, len(await in_flight(gateway)))
        await gateway.poll()
        gateway.wait(1)
    assert most == 2
    assert {(await gateway.read(job))["status"] for job in jobs} == {"completed"}
    await all_is_well(gateway)


@pytest.mark.sqlite_alone  # on Postgres they come to three replicas: tests/stream/test_replicas.py
async def test_five_hundred_at_once_are_accepted_and_ten_are_sent(gateway: Gateway) -> None:
    await limit(gateway, concurrent_jobs=10)
    answers = await asyncio.gather(
        *(gateway.http.post("/v1/jobs", json=gateway.body(STUCK)) for _ in range(500))
    )
    assert {answer.status_code for answer in answers} == {202}
    for _ in range(3):
        await asyncio.gather(gateway.dispatch(), gateway.dispatch(), gateway.dispatch())
    first = await in_flight(gateway)
    assert first == sorted(answer.json()["id"] for answer in answers)[:10]
    for job_id in first[:3]:
        await end(gateway, job_id)
    await gateway.dispatch()
    assert len(await in_flight(gateway)) == 10
    await all_is_well(gateway)


async def test_a_limit_of_none_lets_nothing_start_until_it_is_raised(gateway: Gateway) -> None:
    await limit(gateway, concurrent_jobs=0)
    await submit(gateway)
    await gateway.dispatch()
    assert await in_flight(gateway) == []
    await limit(gateway, concurrent_jobs=1)
    await gateway.dispatch()
    assert len(await in_flight(gateway)) == 1


async def test_a_long_line_delays_another_users_job_by_none_of_it(
    database_url: str, sandbox: Sandbox, clock: Any
) -> None:
    async with running(database_url, sandbox=sandbox, clock=clock, max_in_flight=4) as gateway:
        bob = await gateway.client_of("bob")
        for _ in range(30):
            await submit(gateway)
        await gateway.dispatch()
        flying = await in_flight(gateway)
        assert len(flying) == 4
        his = await submit(gateway, bob)
        await gateway.dispatch()
        assert await in_flight(gateway) == flying
        await end(gateway, flying[0])
        await gateway.dispatch()
        assert await in_flight(gateway, "bob") == [his["id"]]
        assert len(await in_flight(gateway)) == 4


async def test_users_take_turns(database_url: str, sandbox: Sandbox, clock: Any) -> None:
    async with running(database_url, sandbox=sandbox, clock=clock, max_in_flight=6) as gateway:
        clients = {user: await gateway.client_of(user) for user in ("alicia", "bob", "carol")}
        for user, client in clients.items():
            for _ in range(1 if user == "carol" else 9):
                await submit(gateway, client)
        await gateway.dispatch()
        shares = {user: len(await in_flight(gateway, user)) for user in clients}
        assert shares["carol"] == 1
        assert sorted((shares["alicia"], shares["bob"])) == [2, 3]


@pytest.mark.parametrize("places", [1, 2])
async def test_users_take_turns_where_there_are_fewer_places_than_users(
    database_url: str, sandbox: Sandbox, clock: Any, places: int
) -> None:
    options = {"sandbox": sandbox, "clock": clock, "max_in_flight": places}
    async with running(database_url, **options) as gateway, running(database_url, **options) as two:
        whose, replicas = {}, itertools.cycle((gateway, two))
        for user in ("alicia", "bob", "carol"):
            client = await gateway.client_of(user)
            for _ in range(3):
                whose[(await submit(gateway, client))["id"]] = user
        started: list[str] = []
        while len(started) < len(whose):
            await next(replicas).dispatch()
            flying = await in_flight(gateway)
            started += [job_id for job_id in flying if job_id not in started]
            await end(gateway, min(flying, key=started.index))
            gateway.wait(1)
        assert [whose[job_id] for job_id in started] == ["alicia", "bob", "carol"] * 3
        await all_is_well(gateway)


async def test_a_place_that_is_left_over_goes_round(
    database_url: str, sandbox: Sandbox, clock: Any
) -> None:
    async with running(database_url, sandbox=sandbox, clock=clock, max_in_flight=3) as gateway:
        clients = [await gateway.client_of(user) for user in ("alicia", "bob")]
        lines = [[(await submit(gateway, client))["id"] for _ in range(6)] for client in clients]
        shares = []
        for _ in range(4):
            await gateway.dispatch()
            flying = await in_flight(gateway)
            shares.append([len(set(flying) & set(line)) for line in lines])
            for job_id in flying:
                await end(gateway, job_id)
            gateway.wait(1)
        assert shares == [[2, 1], [1, 2], [2, 1], [1, 2]]


async def test_the_more_urgent_and_then_the_older_job_of_a_user_starts(gateway: Gateway) -> None:
    await limit(gateway, concurrent_jobs=1)
    order = ["low", "normal", "high", "normal", "high"]
    jobs = [(await submit(gateway, priority=priority))["id"] for priority in order]
    started = []
    for _ in jobs:
        await gateway.dispatch()
        (flying,) = await in_flight(gateway)
        started.append(jobs.index(flying))
        await end(gateway, flying)
    assert started == [2, 4, 1, 3, 0]


async def test_a_high_priority_passes_nobody_elses_job(
    database_url: str, sandbox: Sandbox, clock: Any
) -> None:
    async with running(database_url, sandbox=sandbox, clock=clock, max_in_flight=2) as gateway:
        bob = await gateway.client_of("bob")
        for _ in range(5):
            await submit(gateway, priority="high")
        low = await submit(gateway, bob, priority="low")
        await gateway.dispatch()
        assert await in_flight(gateway, "bob") == [low["id"]]


async def test_a_key_has_a_limit_of_its_own(gateway: Gateway) -> None:
    await limit(gateway, concurrent_jobs=3)
    tight = {"user": "alice", "limits": {"concurrent_jobs": {"limit": 1}}}
    made = (await gateway.admin.post("/v1/admin/keys", json=tight)).json()
    client = gateway.client_with(made["key"])
    theirs = [(await submit(gateway, client))["id"] for _ in range(5)]
    others = [(await submit(gateway))["id"] for _ in range(5)]
    await gateway.dispatch()
    flying = await in_flight(gateway)
    assert len(flying) == 3
    assert len(set(flying) & set(theirs)) == 1
    assert len(set(flying) & set(others)) == 2


async def test_the_users_of_a_full_key_keep_nobody_else_waiting(
    database_url: str, sandbox: Sandbox, clock: Any
) -> None:
    async with running(database_url, sandbox=sandbox, clock=clock, max_in_flight=2) as gateway:
        await gateway.admin.post("/v1/admin/users", json={"id": "shop"})
        key = {
            "user": "shop",
            "scopes": ["jobs:write", "act_as"],
            "limits": {"concurrent_jobs": {"limit": 1}},
        }
        secret = (await gateway.admin.post("/v1/admin/keys", json=key)).json()["key"]
        client = gateway.client_with(secret)
        for number in range(5):
            client.headers["X-Gateway-User"] = f"u{number}"
            await submit(gateway, client)
        await gateway.dispatch()
        assert len(await in_flight(gateway)) == 1
        late = await submit(gateway)
        await gateway.dispatch()
        assert await in_flight(gateway, "alice") == [late["id"]]


async def test_pausing_keeps_accepting_and_following(gateway: Gateway) -> None:
    sent = await submit(gateway, words="sandbox:instant")
    await gateway.dispatch()
    paused = await gateway.admin.put("/v1/admin/dispatch", json={"paused": True})
    polling = {"paused": False, "reason": None, "since": None, "until": None}
    closed = {"paused": True, "reason": "operator", "since": None, "until": None}
    account = polling | {"name": "default", "drains": False, "unfinished": 1, "polling": polling}
    open_lanes = {"polling": polling, "accounts": [account]}
    assert (paused.status_code, paused.json()) == (200, closed | open_lanes)
    assert (await gateway.admin.get("/v1/admin/dispatch")).json() == closed | open_lanes
    job = await submit(gateway)
    assert await gateway.dispatch() == 0
    assert (await gateway.follow(sent))["status"] == "completed"
    assert (await gateway.read(job))["status"] == "pending"
    called_off = await submit(gateway)
    answer = await gateway.http.post(f"/v1/jobs/{called_off['id']}/cancel")
    assert answer.json()["outcome"] == "cancelled_locally"

    await gateway.admin.put("/v1/admin/dispatch", json={"paused": False})
    now = await gateway.admin.get("/v1/admin/dispatch")
    now_idle = {"polling": polling, "accounts": [account | {"unfinished": 0}]}
    assert now.json() == polling | now_idle
    await gateway.dispatch()
    assert await in_flight(gateway) == [job["id"]]
    entries = await gateway.audited()
    assert [(entry["action"], entry["before"], entry["after"]) for entry in entries[:2]] == [
        ("dispatch.resume", {"paused": True}, {"paused": False}),
        ("dispatch.pause", {"paused": False}, {"paused": True}),
    ]


async def test_what_does_not_say_whether_to_pause_is_refused(gateway: Gateway) -> None:
    for body in ({}, {"paused": "maybe"}, {"paused": True, "for": 5}, []):
        answer = await gateway.admin.put("/v1/admin/dispatch", json=body)
        assert answer.status_code in {400, 422}, answer.text
    assert (await gateway.admin.get("/v1/admin/dispatch")).json()["paused"] is False


NOT_STARTED = {
    "code": "not_started_in_time",
    "message": "The job was not in progress within its `start_within_seconds`.",
}


async def test_a_job_that_waits_too_long_is_cancelled_for_free(gateway: Gateway) -> None:
    await gateway.admin.put("/v1/admin/dispatch", json={"paused": True})
    job = await submit(gateway, start_within_seconds=60)
    other = await submit(gateway)
    gateway.wait(59)
    await gateway.dispatch()
    assert (await gateway.read(job))["status"] == "pending"
    gateway.wait(1)
    await gateway.dispatch()
    ended = await gateway.read(job)
    assert (ended["status"], ended["cost"]["state"]) == ("cancelled", "released")
    assert (ended["finished_at"], ended["error"]) == ("2026-11-22T10:01:00.000Z", NOT_STARTED)
    assert (await gateway.read(other))["status"] == "pending"
    again = await gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert again.json()["outcome"] == "cancelled_locally"
    assert await gateway.sandbox.submits(job) == []
    await all_is_well(gateway)


async def test_a_job_that_stays_in_upstreams_queue_is_cancelled_there(gateway: Gateway) -> None:
    job = await submit(gateway, words="sandbox:stuck-in-queue", start_within_seconds=30)
    await gateway.dispatch()
    ended = await gateway.follow(job, seconds=60)
    assert (ended["status"], ended["cost"]["state"]) == ("cancelled", "released")
    assert "2026-11-22T10:00:30" <= ended["finished_at"] <= "2026-11-22T10:00:40"
    assert ended["error"] == NOT_STARTED
    result = await gateway.http.get(f"/v1/requests/{job['id']}/result")
    assert (result.json()["status"], "error" in result.json()) == ("cancelled", False)
    (sent,) = await gateway.sandbox.submits(job)
    assert (await gateway.sandbox.calls(sent["request_id"]))["cancel"] == 1
    await all_is_well(gateway)


async def test_a_cancel_of_the_owner_is_told_from_one_for_lack_of_time(gateway: Gateway) -> None:
    """Wherever the job is, also once its time is over."""
    await gateway.admin.put("/v1/admin/dispatch", json={"paused": True})
    waiting = await submit(gateway, start_within_seconds=60)
    overdue = await submit(gateway, start_within_seconds=1)
    gateway.wait(2)
    for job in (waiting, overdue):
        answer = await gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
        assert answer.json()["job"]["error"] is None
    await gateway.admin.put("/v1/admin/dispatch", json={"paused": False})
    queued = await submit(gateway, words="sandbox:stuck-in-queue", start_within_seconds=30)
    await gateway.dispatch()
    asked = asyncio.ensure_future(gateway.http.post(f"/v1/jobs/{queued['id']}/cancel"))
    ended = await gateway.follow(queued)
    gateway.wait(1)
    assert (await asked).json()["outcome"] == "cancelled_upstream"
    assert (ended["status"], ended["error"]) == ("cancelled", None)
    gateway.wait(60)
    for job in (waiting, overdue, queued):
        assert (await gateway.read(job))["error"] is None


async def test_a_late_starter_is_called_off_once_however_long_upstream_takes_over_it(
    gateway: Gateway,
) -> None:
    words = "sandbox:stuck-in-queue sandbox:cancel-500=100"
    job = await submit(gateway, words=words, start_within_seconds=30)
    await gateway.dispatch()
    told = (await gateway.admin.get(f"/v1/admin/jobs/{job['id']}")).json()
    gateway.wait(29)
    assert await gateway.poll() == 1
    gateway.wait(1)
    polled = [await gateway.poll() for _ in range(4)]
    assert polled == [1, 0, 0, 0]
    assert (await gateway.sandbox.calls(told["upstream_request_id"]))["cancel"] == 1


async def test_a_job_that_began_in_time_runs_on(gateway: Gateway) -> None:
    job = await submit(gateway, words="sandbox:queue=0 sandbox:slow=60", start_within_seconds=10)
    ended = await gateway.follow(job)
    assert ended["status"] == "completed"
    (sent,) = await gateway.sandbox.submits(job)
    assert (await gateway.sandbox.calls(sent["request_id"])).get("cancel", 0) == 0


async def test_a_job_that_upstream_would_not_cancel_runs_on(gateway: Gateway) -> None:
    """It began upstream just before its time was up, and nobody had looked since."""
    job = await submit(gateway, words="sandbox:queue=1 sandbox:slow=20", start_within_seconds=5)
    await gateway.dispatch()
    await gateway.poll()
    gateway.wait(6)
    ended = await gateway.follow(job)
    assert (ended["status"], ended["cost"]["state"]) == ("completed", "settled")
    assert ended["error"] is None
    (sent,) = await gateway.sandbox.submits(job)
    assert (await gateway.sandbox.calls(sent["request_id"]))["cancel"] == 1
    await all_is_well(gateway)


async def test_no_more_than_the_gateways_own_limit_is_in_flight(
    database_url: str, sandbox: Sandbox, clock: Any
) -> None:
    async with (
        running(database_url, sandbox=sandbox, clock=clock, max_in_flight=3) as gateway,
        running(database_url, sandbox=sandbox, clock=clock, max_in_flight=3) as replica,
    ):
        for _ in range(12):
            await submit(gateway)
        for _ in range(3):
            await asyncio.gather(
                gateway.dispatch(), replica.dispatch(), gateway.dispatch(), replica.dispatch()
            )
        flying = await in_flight(gateway)
        assert len(flying) == 3
        await end(gateway, flying[0])
        await asyncio.gather(gateway.dispatch(), replica.dispatch())
        assert len(await in_flight(gateway)) == 3
        await all_is_well(gateway)


@pytest.mark.parametrize("whose", ["users", "keys"])
async def test_a_job_of_unknown_outcome_keeps_its_place_until_it_would_have_timed_out(
    gateway: Gateway, whose: str
) -> None:
    me = (await gateway.http.get("/v1/me")).json()
    id_ = {"users": me["user"], "keys": me["key"]}[whose]
    limits = {"concurrent_jobs": {"limit": 1}}
    await gateway.admin.patch(f"/v1/admin/{whose}/{id_}", json={"limits": limits})
    await submit(gateway, words="sandbox:lost-answer")
    await gateway.dispatch()
    waiting = await submit(gateway)
    await gateway.dispatch()
    assert (await gateway.read(waiting))["status"] == "pending"
    assert await standing(gateway) == (1, 0)
    gateway.wait(3600 + 60)
    assert await standing(gateway) == (0, 1)
    await gateway.dispatch()
    assert await in_flight(gateway) == [waiting["id"]]
    assert await standing(gateway) == (1, 0)


async def test_the_submit_says_what_cannot_be_a_priority_or_a_deadline(gateway: Gateway) -> None:
    for fields, pointer in (
        ({"priority": "urgent"}, "/priority"),
        ({"start_within_seconds": 0}, "/start_within_seconds"),
        ({"start_within_seconds": 2_592_001}, "/start_within_seconds"),
        ({"start_within_seconds": 1.5}, "/start_within_seconds"),
        ({"start_within_seconds": "60"}, "/start_within_seconds"),
        ({"start_within_seconds": True}, "/start_within_seconds"),
    ):
        answer = await gateway.http.post("/v1/jobs", json=gateway.body() | fields)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
