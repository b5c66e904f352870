"""GET /v1/jobs: the caller's own jobs, newest first, page by page."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.job_filters import job_filter
from app.jobs.state import JobState
from app.jobs.wire import JobRead
from tests.support.answers import problem
from tests.support.gateway import Gateway

pytestmark = pytest.mark.either_database


async def listed(gateway: Gateway, **params: Any) -> list[str]:
    answer = await gateway.http.get("/v1/jobs", params=params)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


async def tagged(gateway: Gateway, metadata: dict[str, str]) -> str:
    answer = await gateway.http.post("/v1/jobs", json=gateway.body() | {"metadata": metadata})
    assert answer.status_code == 202
    return str(answer.json()["id"])


@asynccontextmanager
async def searching(gateway: Gateway, **kind: Any) -> AsyncIterator[None]:
    """Keep one search of a kind going."""
    database = gateway.keys._database  # noqa: SLF001 - all share one
    go_on, in_a_thread = asyncio.Event(), threading.Event()

    async def go_through_many_jobs(connection: AsyncConnection) -> None:
        if connection.dialect.name == "sqlite":
            in_a_thread.wait()
        else:
            await go_on.wait()

    search = asyncio.ensure_future(database.search(go_through_many_jobs, **kind))
    try:
        yield
    finally:
        go_on.set()
        in_a_thread.set()
        await search


async def test_jobs_are_listed_as_they_are_read_newest_first(gateway: Gateway) -> None:
    assert (await gateway.http.get("/v1/jobs")).json() == {
        "object": "list",
        "data": [],
        "next_cursor": None,
    }
    jobs = [await gateway.submit() for _ in range(3)]
    answer = await gateway.http.get("/v1/jobs")
    assert answer.json() == {"object": "list", "data": jobs[::-1], "next_cursor": None}


async def test_pages_stay_as_they_are_while_jobs_are_added(gateway: Gateway) -> None:
    jobs = [await gateway.submit() for _ in range(5)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = (await gateway.http.get("/v1/jobs", params={"limit": 2, **cursor})).json()
        seen += [job["id"] for job in page["data"]]
        cursor = {"cursor": page["next_cursor"]}
        await gateway.submit()
    assert seen == [job["id"] for job in jobs[::-1]]
    assert cursor == {"cursor": None}


async def test_a_page_of_long_jobs_ends_early_and_none_is_missed(gateway: Gateway) -> None:
    """A page is in memory until its reader has taken it."""
    made = [await gateway.submit(prompt="\U0001f3ac" * 60_000) for _ in range(25)]
    for http, path in ((gateway.http, "/v1/jobs"), (gateway.admin, "/v1/admin/jobs")):
        pages = []
        cursor: dict[str, str] = {}
        while not pages or cursor:
            page = (await http.get(path, params={"limit": 25, **cursor})).json()
            pages.append([job["id"] for job in page["data"]])
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
        assert [*pages[0], *pages[1]] == [job["id"] for job in made[::-1]]
        assert [len(each) for each in pages] == [18, 7]


@pytest.mark.parametrize("part", ["input", "output", "metadata", "urls"])
def test_all_that_may_be_long_in_a_job_counts_towards_its_page(part: str) -> None:
    example = JobRead.model_json_schema()["example"]
    longer = {
        "input": {**example["input"], "seed": "x" * 996},
        "output": {"videos": ["x" * 994]},
        "metadata": {**example["metadata"], "note": "x" * 996},
        "urls": {**example["urls"], "outputs": ["x" * 1000]},
    }
    length = JobRead.model_validate(example).length()
    assert JobRead.model_validate({**example, part: longer[part]}).length() == length + 1000


async def test_who_lists_much_at_once_keeps_out_no_others(gateway: Gateway) -> None:
    """A filter that few of a user's 500,000 jobs meet takes seconds, and eight at once took all."""
    other = await gateway.client_of("bob")
    async with searching(gateway, whose="alice"):
        calls = ["/v1/jobs", "/v1/usage"] * 8
        own = [asyncio.ensure_future(gateway.http.get(path)) for path in calls]
        async with asyncio.timeout(60):
            for call in ("/v1/jobs", "/v1/usage"):
                assert (await other.get(call)).status_code == 200
            assert (await gateway.admin.get("/v1/admin/jobs?user=alice")).status_code == 200
        assert not any(each.done() for each in own)
    assert {(await each).status_code for each in own} == {200}


async def test_what_reads_whole_tables_is_read_one_at_a_time(gateway: Gateway) -> None:
    """Operators who ask for everybody's usage keep out no caller."""
    async with searching(gateway, is_long=True):
        calls = ["/v1/admin/usage", "/v1/admin/invariants"] * 4
        long = [asyncio.ensure_future(gateway.admin.get(path)) for path in calls]
        async with asyncio.timeout(60):
            for call in ("/v1/jobs", "/v1/usage"):
                assert (await gateway.http.get(call)).status_code == 200
            assert (await gateway.admin.get("/v1/admin/usage?user=alice")).status_code == 200
        assert not any(each.done() for each in long)
    assert {(await each).status_code for each in long} == {200}


async def test_a_full_last_page_has_no_successor(gateway: Gateway) -> None:
    for _ in range(2):
        await gateway.submit()
    page = (await gateway.http.get("/v1/jobs", params={"limit": 2})).json()
    assert len(page["data"]) == 2
    assert page["next_cursor"] is None


async def test_filters_choose_by_status_model_and_time(gateway: Gateway) -> None:
    failed = (await gateway.follow(await gateway.submit("sandbox:fail")))["id"]
    queued = (await gateway.submit("sandbox:stuck-in-queue"))["id"]
    await gateway.dispatch()
    gateway.wait(60)
    since = gateway.clock.now().isoformat()
    gateway.wait(1)
    pending = (await gateway.submit())["id"]
    cancelled = (await gateway.submit())["id"]
    await gateway.http.post(f"/v1/jobs/{cancelled}/cancel")

    assert await listed(gateway, status="failed") == [failed]
    assert await listed(gateway, status="in_queue,pending") == [pending, queued]
    assert await listed(gateway, status="completed") == []
    assert await listed(gateway, model=gateway.body()["model"], status="cancelled") == [cancelled]
    assert await listed(gateway, model="nobody/knows") == []
    assert await listed(gateway, created_after=since) == [cancelled, pending]
    assert await listed(gateway, created_before=since) == [queued, failed]
    assert await listed(gateway, created_after=since, created_before=since) == []
    assert await listed(gateway, created_after="2026-11-22T11:00:00+14:00", limit=1) == [cancelled]


async def test_pages_of_a_status_are_newest_first_whatever_starts_first(gateway: Gateway) -> None:
    jobs = [
        (await gateway.http.post("/v1/jobs", json=gateway.body() | {"priority": priority})).json()
        for priority in ("low", "high", "normal", "high", "low", "normal", "high")
    ]
    await gateway.http.post(f"/v1/jobs/{jobs[3]['id']}/cancel")
    newest = [job["id"] for job in reversed(jobs)]
    assert await listed(gateway, status="pending,cancelled") == newest
    first = (await gateway.http.get("/v1/jobs?status=cancelled,pending&limit=4")).json()
    rest = await listed(gateway, status="cancelled,pending", cursor=first["next_cursor"])
    assert [job["id"] for job in first["data"]] + rest == newest


async def test_a_job_that_is_being_sent_counts_as_pending(gateway: Gateway) -> None:
    job = await gateway.submit()
    await gateway.workers.dispatcher.claim(1)
    assert await listed(gateway, status="pending") == [job["id"]]


async def test_metadata_is_found_whatever_its_key_is_called(gateway: Gateway) -> None:
    keys = [
        "order",
        "a.b",
        "a]b",
        "a[0]",
        "$",
        '"',
        "'",
        "a\"' OR 1=1 --",
        "%",
        "_",
        "0",
        "ключ 🎬",
    ]
    keys += ["", "a\\b", "#-1", "$.x", "a b", "a&b=c", "+", "\n", "k" * 40]
    ids = {key: await tagged(gateway, {key: f"v{key}"}) for key in keys}
    for key in keys:
        found = await listed(gateway, **{f"metadata[{key}]": f"v{key}", "limit": 100})
        assert found == [ids[key]], key
        assert await listed(gateway, **{f"metadata[{key}]": "w"}) == []


async def test_metadata_filters_are_all_to_be_met(gateway: Gateway) -> None:
    both = await tagged(gateway, {"shop": "a", "order": "1"})
    await tagged(gateway, {"shop": "a", "order": "2"})
    await tagged(gateway, {"shop": "b", "order": "1"})
    empty = await tagged(gateway, {"note": ""})
    assert await listed(gateway, **{"metadata[shop]": "a", "metadata[order]": "1"}) == [both]
    assert await listed(gateway, **{"metadata[note]": ""}) == [empty]


async def test_nobody_finds_the_jobs_of_others(gateway: Gateway) -> None:
    await tagged(gateway, {"order": "4711"})
    page = (await gateway.http.get("/v1/jobs", params={"limit": 1})).json()
    for _ in range(2):
        await gateway.submit()
    cursor = (await gateway.http.get("/v1/jobs", params={"limit": 1})).json()["next_cursor"]
    bob = await gateway.client_of("bob")
    assert page["next_cursor"] is None
    assert cursor is not None
    for params in ({}, {"metadata[order]": "4711"}, {"cursor": cursor}, {"status": "pending"}):
        assert (await bob.get("/v1/jobs", params=params)).json()["data"] == []


@pytest.mark.timeout(60)
async def test_a_status_that_is_named_again_and_again_is_looked_up_once() -> None:
    nothing_else = Request({"type": "http", "query_string": b"", "headers": []})
    asked = await job_filter()(nothing_else, status=",".join(["failed"] * 10**6))
    assert asked.states == {JobState.FAILED}


async def test_what_a_list_cannot_be_asked_is_refused_by_name(gateway: Gateway) -> None:
    many = "&".join(f"metadata[{n}]=" for n in range(100))
    refusals = {
        "limit": [
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=ten",
            "limit=1e1",
            f"limit={'9' * 5000}",
        ],
        "cursor": ["cursor=", "cursor=%00", "cursor=am9i", "cursor=%F0%9F%8E%AC", "cursor=a"],
        "status": ["status=", "status=done", "status=pending,", "status=submitting", "status=%00"],
        "created_after": ["created_after=yesterday", "created_after=2026-11-22T10:00:00"],
        "created_before": ["created_before=0001-01-01T00:00:00%2B14:00", "created_before="],
        "model": ["model=%00", "model=a&model=b"],
        "metadata": [many],
    }
    for name, queries in refusals.items():
        for query in queries:
            answer = await gateway.http.get(f"/v1/jobs?{query}")
            body = problem(answer)
            assert (body["status"], body["code"]) == (422, "invalid_parameter"), query
            expected = "status" if query == "status=%00" else name
            assert body["parameter"] == expected, query
            assert len(answer.text) < 1000


async def test_a_filter_that_does_not_exist_is_refused_not_ignored(gateway: Gateway) -> None:
    answer = await gateway.http.get("/v1/jobs?state=failed")
    assert problem(answer) == {
        "status": 422,
        "code": "invalid_parameter",
        "detail": "There is no filter 'state'; known are created_after, created_before, cursor,"
        " limit, model, status and metadata[<key>].",
        "parameter": "state",
    }
    for name in ("metadata", f"metadata[{'k' * 41}]", "metadata[a", "Limit", ""):
        refused: httpx.Response = await gateway.http.get("/v1/jobs", params={name: "1"})
        assert problem(refused)["parameter"] == name[:64], name
