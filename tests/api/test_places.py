"""Where a waiting job stands, and when a job is expected to end."""

import asyncio
from typing import Any

import pytest

from app.core.clock import ManualClock
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.rows import look
from tests.support.statements import recorded

pytestmark = pytest.mark.either_database

STUCK = "sandbox:queue=0 sandbox:stuck"


def places(jobs: list[dict[str, Any]]) -> list[int | None]:
    return [job["pending_position"] for job in jobs]


async def pause(gateway: Gateway, *, paused: bool = True) -> None:
    answer = await gateway.admin.put("/v1/admin/dispatch", json={"paused": paused})
    assert answer.status_code == 200


async def limit(gateway: Gateway, concurrent_jobs: int) -> None:
    body = {"limits": {"concurrent_jobs": {"limit": concurrent_jobs}}}
    assert (await gateway.admin.patch("/v1/admin/users/alice", json=body)).status_code == 200


async def listed(gateway: Gateway, **query: str) -> list[dict[str, Any]]:
    answer = await gateway.http.get("/v1/jobs", params={"limit": "100"} | query)
    jobs: list[dict[str, Any]] = answer.json()["data"]
    return jobs


async def test_a_place_counts_the_callers_own_line_by_priority_and_age(gateway: Gateway) -> None:
    await pause(gateway)
    bob = await gateway.client_of("bob")
    jobs = []
    for priority in ("normal", "low", "normal", "high"):
        answer = await gateway.http.post("/v1/jobs", json=gateway.body() | {"priority": priority})
        jobs.append(answer.json())
        await bob.post("/v1/jobs", json=gateway.body() | {"priority": "high"})
    assert places(jobs) == [1, 2, 2, 1], "each as it was when its job was accepted"
    now = [2, 4, 3, 1]
    assert places([await gateway.read(job) for job in jobs]) == now
    assert places(await listed(gateway))[::-1] == now
    detail = await gateway.admin.get(f"/v1/admin/jobs/{jobs[1]['id']}")
    assert detail.json()["pending_position"] == 4
    page = (await gateway.admin.get("/v1/admin/jobs")).json()["data"]
    own = {job["id"]: job["pending_position"] for job in page if job["user"] == "alice"}
    assert [own[job["id"]] for job in jobs] == now
    assert {job["pending_position"] for job in page if job["user"] == "bob"} == {1, 2, 3, 4}

    etag = (await gateway.http.get(f"/v1/jobs/{jobs[1]['id']}")).headers["ETag"]
    await gateway.http.post(f"/v1/jobs/{jobs[3]['id']}/cancel")
    assert places([await gateway.read(job) for job in jobs]) == [1, 3, 2, None]
    unchanged = await gateway.http.get(f"/v1/jobs/{jobs[1]['id']}", headers={"If-None-Match": etag})
    assert unchanged.status_code == 304, "the tag covers no positions"


async def test_jobs_that_arrive_together_have_each_a_place(gateway: Gateway) -> None:
    await pause(gateway)
    body = gateway.body()
    answers = await asyncio.gather(
        *(
            gateway.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"order-{n % 15}"})
            for n in range(30)
        )
    )
    jobs = {answer.json()["id"]: answer.json() for answer in answers}
    assert len(jobs) == 15
    assert places([await gateway.read(job) for _, job in sorted(jobs.items())]) == [*range(1, 16)]


async def test_a_page_asks_for_all_places_at_once(gateway: Gateway) -> None:
    await pause(gateway)
    await asyncio.gather(*(gateway.submit() for _ in range(12)))
    await listed(gateway)  # warms what is kept for a while
    with recorded(gateway) as seen:
        assert places(await listed(gateway)) == [*range(12, 0, -1)]
    assert len([text for each in seen for text in each if "FROM jobs" in text]) == 2


async def test_who_does_not_wait_has_no_place(gateway: Gateway) -> None:
    job = await gateway.submit(STUCK)
    assert job["pending_position"] == 1
    (attempt,) = await gateway.workers.dispatcher.claim(1)
    sending = await gateway.read(job)
    assert (sending["status"], sending["pending_position"]) == ("pending", None)
    assert sending["eta_seconds"] == 51
    await gateway.workers.dispatcher.dispatch(attempt)
    assert (await gateway.read(job))["pending_position"] is None
    lost = await gateway.submit("sandbox:lost-answer")
    await gateway.dispatch()
    unknown = await gateway.read(lost)
    assert unknown["status"] == "submit_unknown"
    assert (unknown["pending_position"], unknown["eta_seconds"]) == (None, None)


async def test_an_eta_is_learned_and_shrinks(gateway: Gateway) -> None:
    words = "sandbox:queue=0 sandbox:slow=150"
    before = (await gateway.submit(words))["eta_seconds"]
    assert before == 51, "what is believed of a model before anything was seen of it"
    for _ in range(7):
        await gateway.submit(words)
    await gateway.dispatch()
    for _ in range(18):
        gateway.wait(10)
        await gateway.poll()
    assert {job["status"] for job in await listed(gateway)} == {"completed"}
    assert {job["eta_seconds"] for job in await listed(gateway)} == {None}

    gateway.wait(10)
    job = await gateway.submit(words)
    assert 100 < job["eta_seconds"] < 170
    other = await gateway.submit(words, duration=12)
    assert 80 < other["eta_seconds"] < 170, "an input never seen leans on its model's others"
    await gateway.dispatch()
    gateway.wait(2)
    await gateway.poll()
    seen = []
    for _ in range(4):
        read = await gateway.read(job)
        assert read["status"] == "in_progress"
        seen.append(read["eta_seconds"])
        gateway.wait(30)
    assert seen == sorted(seen, reverse=True)
    assert 0 < seen[-1] < seen[0] - 50


async def test_a_process_that_takes_no_jobs_knows_of_durations_too(
    gateway: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    words = "sandbox:queue=0 sandbox:slow=150"
    for _ in range(4):
        await gateway.submit(words)
    await gateway.dispatch()
    for _ in range(17):
        gateway.wait(10)
        await gateway.poll()
    job = await gateway.submit(words)
    assert job["eta_seconds"] > 60
    for path in (f"/v1/jobs/{job['id']}", "/v1/jobs?status=pending"):
        async with running(database_url, sandbox=sandbox, clock=clock) as other:
            alice = await other.client_of("alice")
            read = (await alice.get(path)).json()
        (told,) = read.get("data", [read])
        assert told["eta_seconds"] == job["eta_seconds"]


async def test_a_waiting_jobs_eta_grows_with_its_place(gateway: Gateway) -> None:
    await limit(gateway, 2)
    jobs = [await gateway.submit(STUCK) for _ in range(6)]
    await gateway.dispatch()
    waiting = [job for job in [await gateway.read(job) for job in jobs] if job["pending_position"]]
    assert places(waiting) == [1, 2, 3, 4]
    assert [job["eta_seconds"] for job in waiting] == [76, 101, 126, 151]
    await pause(gateway)
    assert {job["eta_seconds"] for job in await listed(gateway, status="pending")} == {None}


@pytest.mark.parametrize("word", ["sandbox:fail", ""])
async def test_only_what_upstream_ended_is_learned_from(
    gateway: Gateway, database_url: str, word: str
) -> None:
    job = await gateway.submit(f"sandbox:queue=0 sandbox:slow=3 {word}")
    await gateway.follow(job)
    body = gateway.body("sandbox:stuck-in-queue") | {"start_within_seconds": 1}
    called_off = (await gateway.http.post("/v1/jobs", json=body)).json()
    await gateway.dispatch()
    assert (await gateway.follow(called_off, seconds=30))["status"] == "cancelled"
    ended = await gateway.submit(STUCK)
    await gateway.dispatch()
    await gateway.admin.post(f"/v1/admin/jobs/{ended['id']}/fail")
    rows = look(database_url, "SELECT * FROM durations")
    assert {(row.phase, row.input_class) for row in rows} == {("queue", ""), ("run", "2s 480p")}
    assert len(rows) == 2
