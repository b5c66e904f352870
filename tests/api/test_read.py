"""GET /v1/jobs/{id}: the job, its tag, and nobody else's."""

import asyncio
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from app.core.clock import ManualClock
from tests.support.answers import problem
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.rows import change
from tests.support.statements import recorded
from tests.support.turns import turns

pytestmark = pytest.mark.either_database


async def test_a_job_that_has_not_changed_is_not_sent_again(gateway: Gateway) -> None:
    job = await gateway.submit()
    path = f"/v1/jobs/{job['id']}"
    tag = (await gateway.http.get(path)).headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', f'"a",W/{tag} ,"b"', "*", f"W/{tag}, {tag}"):
        answer = await gateway.http.get(path, headers={"If-None-Match": known})
        assert answer.status_code == 304, known
        assert answer.content == b""
        assert answer.headers["ETag"] == tag
    lines = [(b"If-None-Match", b'"other"'), (b"If-None-Match", tag.encode())]
    assert (await gateway.http.get(path, headers=lines)).status_code == 304
    for other in ('"other"', tag.strip('"'), "", f"W/ {tag}", '"*"'):
        answer = await gateway.http.get(path, headers={"If-None-Match": other})
        assert (answer.status_code, answer.json()) == (200, job), other


async def test_no_cache_answers_in_place_of_the_gateway(gateway: Gateway) -> None:
    """A browser that keeps a job sends its tag by itself, and shows an old place for ever."""
    job = await gateway.submit()
    path = f"/v1/jobs/{job['id']}"
    answers = [
        await gateway.http.get(path),
        await gateway.http.get(path, headers={"If-None-Match": "*"}),
        await gateway.http.get(f"{path}/outputs/0"),
        await gateway.http.get("/v1/jobs"),
    ]
    assert [answer.status_code for answer in answers] == [200, 304, 404, 200]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}


async def test_the_tag_changes_with_every_state(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:output=image")
    tags = {}
    for _ in range(30):
        answer = await gateway.http.get(f"/v1/jobs/{job['id']}")
        tags[answer.json()["status"]] = answer.headers["ETag"]
        if answer.json()["finished_at"]:
            break
        gateway.wait(1)
        await gateway.dispatch()
        await gateway.poll()
    assert list(tags) == ["pending", "in_queue", "in_progress", "completed"]
    assert len(set(tags.values())) == 4


async def test_the_tag_of_a_job_with_outputs_changes_with_their_links(gateway: Gateway) -> None:
    job = await gateway.follow(await gateway.submit("sandbox:instant"))
    path = f"/v1/jobs/{job['id']}"
    tag = (await gateway.http.get(path)).headers["ETag"]
    gateway.wait(60)
    same = await gateway.http.get(path, headers={"If-None-Match": tag})
    assert same.status_code == 304
    gateway.wait(3600)
    fresh = await gateway.http.get(path, headers={"If-None-Match": tag})
    assert fresh.status_code == 200
    assert fresh.json()["output"] != job["output"]
    assert fresh.json() | {"output": None, "urls": None} == job | {"output": None, "urls": None}


async def test_a_failed_job_says_why(gateway: Gateway) -> None:
    job = await gateway.follow(await gateway.submit("sandbox:fail"))
    assert job["status"] == "failed"
    assert job["error"] == {"code": "failed_upstream", "message": "The sandbox was asked to fail"}
    assert job["output"] is None
    assert job["urls"]["outputs"] == []


async def test_a_job_of_somebody_else_does_not_exist(gateway: Gateway) -> None:
    job = await gateway.submit()
    bob = await gateway.client_of("bob")
    for answer in (
        await bob.get(f"/v1/jobs/{job['id']}"),
        await bob.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": "*"}),
        await bob.post(f"/v1/jobs/{job['id']}/cancel"),
        await bob.get(f"/v1/jobs/{job['id']}/outputs/0"),
    ):
        assert problem(answer) == {
            "status": 404,
            "code": "job_not_found",
            "detail": f"There is no job '{job['id']}' here, or it is not yours.",
        }
    assert await gateway.read(job) == job


async def test_an_id_that_is_none_is_not_found(gateway: Gateway) -> None:
    job = await gateway.submit()
    ids = ["0", job["id"].upper(), f"{job['id']} ", f"{job['id']}0", job["id"][:-1], "job_", "..."]
    ids += [
        "\0",
        f"{job['id']}\0",
        "ключ",
        "🎬",
        "x" * 60_000,
        "\n",
        "%",
        "'",
        "job_" + "\u0660" * 26,
    ]
    for junk in ids:
        for answer in (
            await gateway.http.get(f"/v1/jobs/{quote(junk)}"),
            await gateway.http.post(f"/v1/jobs/{quote(junk)}/cancel"),
            await gateway.http.get(f"/v1/jobs/{quote(junk)}/outputs/0"),
            await gateway.admin.get(f"/v1/admin/jobs/{quote(junk)}"),
            await gateway.admin.post(f"/v1/admin/jobs/{quote(junk)}/fail"),
        ):
            assert answer.status_code == 404, junk[:40]
            assert problem(answer)["code"] == "job_not_found"
            assert len(answer.text) < 1000


async def test_who_knows_an_older_state_is_told_of_the_newer_without_a_wait(
    gateway: Gateway,
) -> None:
    path = f"/v1/jobs/{(await gateway.submit())['id']}"
    tag = (await gateway.http.get(path)).headers["ETag"]
    await gateway.dispatch()
    headers = {"Prefer": "wait=20", "If-None-Match": tag}
    async with asyncio.timeout(60):  # by a clock that stands still it would wait for ever
        newer = await gateway.http.get(path, headers=headers)
    assert (newer.status_code, newer.json()["status"]) == (200, "in_queue")


@pytest.mark.sqlite_alone  # which tells and is read within a few turns of the loop
async def test_who_waits_for_the_end_looks_no_more_often_than_there_is_news(
    gateway: Gateway,
) -> None:
    body = gateway.body("sandbox:stuck-in-queue")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(
            gateway.http.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"})
        )
        while not await gateway.dispatch():
            await turns()
        await turns(100)
        with recorded(gateway) as seen:
            await turns(100)
        assert seen == []
        gateway.wait(20)
    assert waiting.result().json()["status"] == "in_queue"
    assert waiting.result().headers["Server-Timing"] == "gateway;dur=0.0"  # the wait is not ours


@pytest.mark.sqlite_alone  # a database that gives notice may tell of the end before the erasure
async def test_who_waits_for_a_job_that_is_erased_elsewhere_is_told_at_the_end(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    waits = {"Prefer": "wait=20"}
    one_place: dict[str, Any] = {"max_streams_per_user": 1}
    async with (
        running(database_url, sandbox=sandbox, clock=clock, **one_place) as gateway,
        asyncio.TaskGroup() as group,
    ):

        async def erased_meanwhile(method: str, path: str, *, jobs: int) -> httpx.Response:
            """Erase the newest of so many jobs once it is waited for."""
            body = gateway.body() if method == "POST" else None
            waiting = group.create_task(
                gateway.http.request(method, path, headers=waits, json=body)
            )
            while True:  # until the one place is taken, which this call, being refused, never keeps
                looked = await gateway.http.post("/v1/jobs", json={}, headers=waits)
                found = (await gateway.http.get("/v1/jobs")).json()["data"]
                if looked.status_code == 429 and len(found) == jobs:
                    break
            change(database_url, "DELETE FROM jobs WHERE id = :id", id=found[0]["id"])
            while not waiting.done():
                gateway.wait(20)
                await gateway.http.get("/v1/me")
            return await waiting

        job_path = f"/v1/jobs/{(await gateway.submit())['id']}"
        submitted = await erased_meanwhile("POST", "/v1/jobs", jobs=2)
        assert (submitted.status_code, submitted.json()["status"]) == (202, "pending")
        read = await erased_meanwhile("GET", job_path, jobs=1)
        assert problem(read)["code"] == "job_not_found"
