"""POST /v1/jobs/{id}/cancel: free while the job is here, an intent once RunComfy has it."""

import asyncio
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from tests.support.answers import problem
from tests.support.gateway import Gateway

pytestmark = pytest.mark.either_database


async def ask(gateway: Gateway, job: dict[str, Any]) -> httpx.Response:
    return await gateway.http.post(f"/v1/jobs/{job['id']}/cancel")


async def ask_with_workers(gateway: Gateway, *jobs: dict[str, Any]) -> list[httpx.Response]:
    """Cancel while the workers work and time goes by, as it does in a gateway that runs."""
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(gateway, job)) for job in jobs]
        while not all(task.done() for task in asked):
            await gateway.poll()
            gateway.wait(0.1)
    return [task.result() for task in asked]


async def ask_in_vain(gateway: Gateway, job: dict[str, Any]) -> httpx.Response:
    """Cancel while nobody works: upstream is silent, and time goes by all the same."""
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(gateway, job))
        while not asked.done():
            await gateway.read(job)
            if gateway.clock.has_sleepers:  # not while it writes the request down
                gateway.wait(0.5)
    return asked.result()


async def in_queue(gateway: Gateway, words: str = "") -> dict[str, Any]:
    job = await gateway.submit(f"sandbox:stuck-in-queue {words}")
    return await gateway.follow(job, lambda job: job["status"] == "in_queue")


def lasting(answer: httpx.Response) -> dict[str, Any]:
    """Leave out where the job stands in a line and when it may end, which time alone changes."""
    body: dict[str, Any] = answer.json()
    return body | {"job": still(body["job"])}


def still(job: dict[str, Any]) -> dict[str, Any]:
    return job | {"pending_position": None, "eta_seconds": None}


async def test_a_job_that_was_not_sent_is_cancelled_here(gateway: Gateway) -> None:
    job = await gateway.submit()
    gateway.wait(2)
    answer = await ask(gateway, job)
    cancelled = still(job) | {"status": "cancelled", "finished_at": "2026-11-22T10:00:02.000Z"}
    cancelled["cost"]["state"] = "released"
    assert answer.status_code == 200
    assert answer.json() == {"outcome": "cancelled_locally", "job": cancelled}

    gateway.wait(2)
    again = await ask(gateway, job)
    assert (again.status_code, again.json()) == (200, answer.json())
    assert await gateway.dispatch() == 0
    assert await gateway.sandbox.submits(job) == []


async def test_the_log_tells_of_a_cancel_here_once_and_by_which_request(gateway: Gateway) -> None:
    job = await gateway.submit()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        answer = await ask(gateway, job)
        await ask(gateway, job)
    assert logs == [
        {
            "event": "job.advanced",
            "log_level": "info",
            "job_id": job["id"],
            "state": "cancelled",
            "request_id": answer.headers["X-Request-Id"],
        }
    ]


async def test_a_job_in_upstreams_queue_is_cancelled_there(gateway: Gateway) -> None:
    job = await in_queue(gateway)
    (answer,) = await ask_with_workers(gateway, job)
    assert answer.status_code == 200
    cancelled = await gateway.read(job)
    assert answer.json() == {"outcome": "cancelled_upstream", "job": cancelled}
    assert cancelled["status"] == "cancelled"
    assert cancelled["finished_at"] is not None
    assert cancelled["queue_position"] is None

    again = await ask(gateway, job)
    assert (again.status_code, again.json()) == (200, answer.json())
    (submit,) = await gateway.sandbox.submits(job)
    assert (await gateway.sandbox.calls(submit["request_id"]))["cancel"] == 1


async def test_a_job_in_progress_runs_on(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:queue=0 sandbox:slow=60 sandbox:output=image")
    job = await gateway.follow(job, lambda job: job["status"] == "in_progress")
    for _ in range(2):
        (answer,) = await ask_with_workers(gateway, job)
        assert problem(answer) == {
            "status": 409,
            "code": "not_cancellable",
            "detail": "RunComfy is already working on this job; it runs on and will be charged.",
            "reason": "in_progress",
        }
    assert (await gateway.follow(job))["status"] == "completed"


async def test_a_job_that_began_meanwhile_is_seen_to_run(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:queue=5 sandbox:stuck")
    await gateway.dispatch()
    gateway.wait(6)
    (answer,) = await ask_with_workers(gateway, job)
    assert problem(answer)["reason"] == "in_progress"
    assert (await gateway.read(job))["status"] == "in_progress"


async def test_a_job_that_has_ended_stays_as_it_is(gateway: Gateway) -> None:
    for words in ("sandbox:instant", "sandbox:fail"):
        job = await gateway.follow(await gateway.submit(words))
        assert problem(await ask(gateway, job)) == {
            "status": 409,
            "code": "not_cancellable",
            "detail": "This job has already ended.",
            "reason": "finished",
        }
        assert await gateway.read(job) == job


async def test_a_job_that_ended_meanwhile_is_told_as_ended(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:instant")
    await gateway.dispatch()
    gateway.wait(1)
    (answer,) = await ask_with_workers(gateway, job)
    assert problem(answer)["reason"] == "finished"
    assert (await gateway.read(job))["status"] == "completed"


async def test_what_nobody_knows_cannot_be_cancelled(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:lost-answer")
    await gateway.dispatch()
    answer = problem(await ask(gateway, job))
    assert answer["reason"] == "submit_unknown"
    assert (answer["status"], answer["code"]) == (409, "not_cancellable")
    assert (await gateway.read(job))["status"] == "submit_unknown"


async def test_a_cancel_during_the_submit_is_carried_out_after_it(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:stuck-in-queue")
    (attempt,) = await gateway.workers.dispatcher.claim(1)
    answer = await ask(gateway, job)
    assert answer.status_code == 202
    assert lasting(answer) == {"outcome": "cancel_requested", "job": still(job)}

    await gateway.workers.dispatcher.dispatch(attempt)
    await gateway.poll()
    again = await ask(gateway, job)
    assert (again.status_code, again.json()["outcome"]) == (200, "cancelled_upstream")


async def test_a_cancel_during_a_submit_that_fails_needs_no_upstream(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:submit-429")
    (attempt,) = await gateway.workers.dispatcher.claim(1)
    assert (await ask(gateway, job)).status_code == 202
    await gateway.workers.dispatcher.dispatch(attempt)

    assert (await gateway.read(job))["status"] == "pending"
    await gateway.dispatch()
    again = await ask(gateway, job)
    assert (again.status_code, again.json()["outcome"]) == (200, "cancelled_locally")
    assert len(await gateway.sandbox.submits(job)) == 1


async def test_a_cancel_without_an_answer_is_kept_and_followed_up(gateway: Gateway) -> None:
    job = await in_queue(gateway)
    began = gateway.clock.now()
    answer = await ask_in_vain(gateway, job)
    assert (gateway.clock.now() - began).total_seconds() >= 10
    assert answer.status_code == 202
    ours_ms = float(answer.headers["Server-Timing"].removeprefix("gateway;dur="))
    assert ours_ms <= 5000, "the rest was a wait for RunComfy"
    assert lasting(answer) == {"outcome": "cancel_requested", "job": still(job)}

    done = await gateway.follow(job)
    assert done["status"] == "cancelled"
    again = await ask(gateway, job)
    assert (again.status_code, again.json()["outcome"]) == (200, "cancelled_upstream")


async def test_every_way_of_granting_a_cancel_is_understood(gateway: Gateway) -> None:
    ways = [
        "cancel-outcome",  # "cancellation_requested"
        "cancel-outcome sandbox:cancel-lag=3",
        "cancel-outcome=none",
        "cancel-outcome=canceled sandbox:cancelled-word=Canceled",
        "cancel-status=completed",
        "lost-cancel",
        "lost-cancel=html",
        "cancel-404",
        "cancel-500=2",
        "cancel-504",
        "cancel-429",
    ]
    jobs = [await gateway.submit(f"sandbox:stuck-in-queue sandbox:{way}") for way in ways]
    await gateway.dispatch()
    answers = await ask_with_workers(gateway, *jobs)
    outcomes = {
        way: answer.json().get("outcome") for way, answer in zip(ways, answers, strict=True)
    }
    assert outcomes == dict.fromkeys(ways, "cancelled_upstream")
    assert {answer.status_code for answer in answers} == {200}
    for job in jobs:
        assert (await gateway.read(job))["status"] == "cancelled"


async def test_two_cancels_at_once_get_the_same_answer(gateway: Gateway) -> None:
    queued = await in_queue(gateway)
    pending = await gateway.submit()
    answers = await ask_with_workers(gateway, pending, pending, queued, queued)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert answers[0].json() == answers[1].json()
    assert answers[2].json() == answers[3].json()
