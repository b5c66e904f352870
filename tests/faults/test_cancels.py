"""Cancels are intents: wherever the job is, a worker carries them out, and upstream decides."""

import asyncio
from typing import Any

import httpx
import pytest

from app.core.clock import ManualClock
from tests.support.gateway import Gateway, Sandbox
from tests.support.invariants import read_jobs
from tests.support.wire_server import Line, answer, answers, wire_server
from tests.support.workbench import workbench

pytestmark = pytest.mark.either_database


async def ask(gateway: Gateway, job: dict[str, Any]) -> tuple[int, str]:
    """Cancel while a poller is at work; time goes by until there is an answer."""
    asked = asyncio.ensure_future(gateway.http.post(f"/v1/jobs/{job['id']}/cancel"))
    while not asked.done():
        await gateway.poll()
        await asyncio.wait({asked}, timeout=0.01)
        gateway.wait(0.3)
    answer = asked.result()
    return answer.status_code, answer.json().get("outcome", answer.json().get("reason"))


async def requested(
    gateway: Gateway, job: dict[str, Any], database_url: str
) -> asyncio.Future[httpx.Response]:
    """Ask for a cancel; return once the request is written, with the answer to come."""
    asked = asyncio.ensure_future(gateway.http.post(f"/v1/jobs/{job['id']}/cancel"))
    while (await read_jobs(database_url))[job["id"]][0].cancel_requested_at is None:
        pass  # the look itself lets the request go on
    return asked


async def queued(gateway: Gateway, words: str = "") -> dict[str, Any]:
    job = await gateway.submit(f"sandbox:stuck-in-queue {words}")
    await gateway.dispatch()
    return job


async def test_no_wording_and_no_fault_of_a_cancel_loses_it(gateway: Gateway) -> None:
    """Beside those of tests/api/test_cancel.py."""
    jobs = [
        await queued(gateway, words)
        for words in (
            "sandbox:cancel-status=in_progress",
            "sandbox:cancel-outcome=none sandbox:cancel-status=cancelling",
            "sandbox:lost-cancel=504",
            "sandbox:cancel-lag=4",
            "sandbox:poll-504=2",
        )
    ]
    for job in jobs:
        await ask(gateway, job)
        assert (await gateway.follow(job))["status"] == "cancelled", job["input"]


async def test_a_cancel_that_always_fails_does_not_keep_a_job_from_its_end(
    gateway: Gateway,
) -> None:
    job = await gateway.submit("sandbox:queue=30 sandbox:slow=100 sandbox:cancel-500=100000")
    await gateway.dispatch()
    assert await ask(gateway, job) == (202, "cancel_requested")
    gateway.wait(70)
    assert await ask(gateway, job) == (202, "cancel_requested"), "no answer is no refusal"
    assert (await gateway.follow(job))["status"] == "completed"


@pytest.mark.parametrize("fault", ["403", "404", "422"])
async def test_a_cancel_that_is_always_refused_is_not_sent_for_ever(
    gateway: Gateway, database_url: str, fault: str
) -> None:
    """Each poll would be two calls until the job ends."""
    job = await gateway.submit(f"sandbox:queue=0 sandbox:slow=90 sandbox:cancel-{fault}=100000")
    await gateway.dispatch()
    assert await ask(gateway, job) == (202, "cancel_requested")
    row, _ = (await read_jobs(database_url))[job["id"]]
    assert row.upstream_request_id

    async def sent() -> int:
        return (await gateway.sandbox.calls(row.upstream_request_id))["cancel"]

    for _ in range(60):
        gateway.wait(1)
        await gateway.poll()
    in_time = await sent()
    assert in_time > 1
    assert (await gateway.follow(job))["status"] == "completed"
    assert await sent() == in_time


async def test_a_granted_cancel_that_is_not_done_leaves_the_job_its_film(
    gateway: Gateway,
) -> None:
    """Upstream may say `cancelled` and go on to succeed, at our expense."""
    job = await gateway.submit("sandbox:queue=5 sandbox:slow=30 sandbox:cancel-ignored")
    await gateway.dispatch()
    await ask(gateway, job)
    assert (await gateway.follow(job))["status"] == "completed"


async def test_a_refusal_stands_while_more_is_learned_of_the_job(
    gateway: Gateway, database_url: str
) -> None:
    """Whoever waits for the answer looks a few times a second, and must find it even so."""
    job = await gateway.submit("sandbox:queue=0 sandbox:stuck sandbox:expired=60")
    await gateway.dispatch()
    assert await ask(gateway, job) == (409, "in_progress")
    gateway.wait(60)
    await gateway.poll()
    row, _ = (await read_jobs(database_url))[job["id"]]
    assert (row.lost_polls, row.cancel_outcome) == (1, "not_cancellable")
    assert row.cancel_requested_at is None, "it is not sent again"


async def test_an_end_stands_though_a_cancel_came_before_it_was_written(
    gateway: Gateway, database_url: str
) -> None:
    job = await gateway.submit("sandbox:queue=0 sandbox:slow=0 sandbox:fail")
    await gateway.dispatch()
    gateway.wait(2)
    [lease] = await gateway.workers.poller.claim(64)
    asked = await requested(gateway, job, database_url)
    await gateway.workers.poller.poll(lease)
    row, _ = (await read_jobs(database_url))[job["id"]]
    assert (row.state, row.due_at) == ("failed", None)
    gateway.wait(1)
    assert (await asked).json()["reason"] == "finished"


@pytest.mark.parametrize("words", ["sandbox:no-position", "sandbox:position-base=2"])
async def test_a_cancel_that_arrives_during_a_poll_is_due_at_once(
    gateway: Gateway, database_url: str, words: str
) -> None:
    """Both when the poll found nothing new and when it wrote a new position."""
    job = await queued(gateway, words)
    gateway.wait(2)
    [lease] = await gateway.workers.poller.claim(64)
    asked = await requested(gateway, job, database_url)
    await gateway.workers.poller.poll(lease)
    assert await gateway.poll() == 1, "without any time going by"
    gateway.wait(1)
    assert (await asked).json()["outcome"] == "cancelled_upstream"


async def test_a_cancel_that_is_claimed_during_a_poll_is_due_right_after_it(
    gateway: Gateway, clock: ManualClock, database_url: str
) -> None:
    """The claim made the next appointment, as it does whatever a poll finds."""
    asked, told = asyncio.Event(), asyncio.Event()

    async def script(line: Line) -> None:
        await line.request()
        asked.set()
        await told.wait()
        await line.send(answer(200, {"status": "in_queue"}))
        await answers(
            answer(202, {"status": "cancelled", "outcome": "cancelled"}),
            answer(200, {"status": "cancelled"}),
        )(line)

    job = await queued(gateway)
    gateway.wait(31)  # until the job is free for another poller
    async with (
        wire_server(script) as upstream,
        workbench(database_url, upstream_url=upstream.url, clock=clock) as bench,
    ):
        [lease] = await bench.poller.claim(64)
        polling = asyncio.ensure_future(bench.poller.poll(lease))
        await asked.wait()
        cancelling = await requested(gateway, job, database_url)
        assert await bench.poller.claim(64) == []
        told.set()
        await polling
        assert await bench.poller.loop.run_once() == 1, "without any time going by"
        gateway.wait(1)
        assert (await cancelling).json()["outcome"] == "cancelled_upstream"


async def test_however_many_have_not_started_in_time_they_end_some_at_a_time(
    gateway: Gateway, sandbox: Sandbox, clock: ManualClock, database_url: str
) -> None:
    """A statement takes only so many parameters, and an outage makes any number of such jobs."""
    asked = gateway.body() | {"start_within_seconds": 60}
    jobs = [(await gateway.http.post("/v1/jobs", json=asked)).json() for _ in range(3)]
    gateway.wait(60)
    async with workbench(
        database_url, upstream_url=sandbox.url, clock=clock, swept_at_once=2
    ) as bench:
        for ended in (2, 3):
            assert await bench.dispatcher.claim(1) == []
            statuses = [(await gateway.read(job))["status"] for job in jobs]
            assert statuses.count("cancelled") == ended
