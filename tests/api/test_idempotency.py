"""Idempotency-Key: one key, one job, for a day."""

import asyncio
import json
from typing import Any

import httpx

from app.core.clock import ManualClock
from tests.support.answers import problem
from tests.support.gateway import Gateway, Sandbox, running


async def post(gateway: Gateway, body: Any, *, key: str = "order-4711") -> httpx.Response:
    return await gateway.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})


async def test_the_same_request_again_is_answered_with_the_same_job(gateway: Gateway) -> None:
    body = gateway.body()
    first = await post(gateway, body)
    assert first.status_code == 202
    assert "Idempotency-Replayed" not in first.headers

    again = await post(gateway, body)
    assert again.status_code == 200
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == first.json()

    await gateway.dispatch()
    later = await post(gateway, body)
    assert later.status_code == 200
    assert later.json() == await gateway.read(first.json())
    assert later.json()["status"] == "in_queue"
    assert len(await gateway.sandbox.submits(first.json())) == 1


async def test_a_replay_finds_its_job_where_there_is_no_place_to_wait(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    """A new job is refused rather than accepted and not waited for."""
    settings = {"max_streams_per_user": 1}
    async with running(database_url, sandbox=sandbox, clock=clock, **settings) as gateway:
        body, other = gateway.body(), gateway.body()
        first = await post(gateway, body)
        waiting = {"Idempotency-Key": "order-4711", "Prefer": "wait=5"}
        with gateway.app.state.services.hub.place("alice"):
            again = await gateway.http.post("/v1/jobs", json=body, headers=waiting)
            assert (again.status_code, again.json()) == (200, first.json())
            assert again.headers["Idempotency-Replayed"] == "true"
            assert "Preference-Applied" not in again.headers
            conflict = await gateway.http.post("/v1/jobs", json=other, headers=waiting)
            assert problem(conflict)["code"] == "idempotency_conflict"
            new = await gateway.http.post("/v1/jobs", json=other, headers={"Prefer": "wait=5"})
            assert problem(new)["code"] == "too_many_streams"
        assert len((await gateway.http.get("/v1/jobs")).json()["data"]) == 1
        await gateway.http.post(f"/v1/jobs/{first.json()['id']}/cancel")
        again = await gateway.http.post("/v1/jobs", json=body, headers=waiting)
        assert again.headers["Preference-Applied"] == "wait=5"
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_the_order_of_keys_and_the_spelling_of_numbers_do_not_count(
    gateway: Gateway,
) -> None:
    body = gateway.body(duration=5)
    first = await post(gateway, body)
    flipped = {name: body[name] for name in reversed(body)}
    flipped["input"] = {name: body["input"][name] for name in reversed(body["input"])}
    spelled = json.dumps(flipped, indent=2).replace('"duration": 5', '"duration": 5.0e0')
    again = await gateway.http.post(
        "/v1/jobs",
        content=spelled,
        headers={"Idempotency-Key": "order-4711", "Content-Type": "application/json"},
    )
    assert again.status_code == 200, again.text
    assert again.json() == first.json()


async def test_another_body_under_a_used_key_is_a_conflict(gateway: Gateway) -> None:
    body = gateway.body()
    first = await post(gateway, body)
    for other in (
        body | {"metadata": {"order": "4712"}},
        body | {"metadata": {}},  # a default that is spelled out is another text
        body | {"webhook_url": None},
        body | {"input": body["input"] | {"duration": "2"}},
        {},
        [],
        "\0",
        {"model": "nobody/knows", "input": {}, "webhook_url": 7},
    ):
        answer = await post(gateway, other)
        assert problem(answer) == {
            "status": 409,
            "code": "idempotency_conflict",
            "detail": "This Idempotency-Key already made a job from another body within the last"
            " 24 hours; send the same body again to see that job, or use a new key for a new job.",
            "job": first.json()["id"],
        }


async def test_keys_of_different_users_have_nothing_to_do_with_each_other(
    gateway: Gateway,
) -> None:
    body = gateway.body()
    alices = await post(gateway, body)
    bob = await gateway.client_of("bob")
    bobs = await bob.post("/v1/jobs", json=body, headers={"Idempotency-Key": "order-4711"})
    assert bobs.status_code == 202
    assert bobs.json()["id"] != alices.json()["id"]


async def test_validating_takes_no_notice_of_keys(gateway: Gateway) -> None:
    body = gateway.body()
    await post(gateway, body)
    for checked in (body, gateway.body()):
        answer = await gateway.http.post(
            "/v1/jobs/validate", json=checked, headers={"Idempotency-Key": "order-4711"}
        )
        assert answer.json()["valid"] is True


async def test_a_refusal_binds_no_key(gateway: Gateway) -> None:
    assert (await post(gateway, gateway.body(duration=99))).status_code == 422
    assert (await post(gateway, {"model": "nobody/knows", "input": {}})).status_code == 422
    assert (await post(gateway, gateway.body())).status_code == 202


async def test_a_key_is_free_again_after_a_day(gateway: Gateway) -> None:
    body = gateway.body()
    first = await post(gateway, body)
    gateway.wait(24 * 3600 - 1)
    assert (await post(gateway, body)).json()["id"] == first.json()["id"]
    gateway.wait(1)
    second = await post(gateway, gateway.body())
    assert second.status_code == 202
    assert second.json()["id"] != first.json()["id"]
    assert (await post(gateway, body)).status_code == 409


async def test_a_key_that_is_none_is_refused(gateway: Gateway) -> None:
    for keys in ([""], ["a b"], ["k" * 256], ["schlüssel"], ["tab\there"], ["1", "2"], ["a", "a"]):
        lines = [(b"Idempotency-Key", key.encode()) for key in keys]
        answer = await gateway.http.post("/v1/jobs", json=gateway.body(), headers=lines)
        assert problem(answer) == {
            "status": 422,
            "code": "invalid_parameter",
            "detail": "The header Idempotency-Key must be 1 to 255 visible ASCII characters.",
            "parameter": "Idempotency-Key",
        }
    longest = await post(gateway, gateway.body(), key="~" * 255)
    assert longest.status_code == 202


async def test_a_hundred_at_once_make_one_job_and_one_submit(gateway: Gateway) -> None:
    body = gateway.body()
    answers = await asyncio.gather(*(post(gateway, body) for _ in range(100)))
    assert sorted(answer.status_code for answer in answers) == [200] * 99 + [202]
    (job,) = {answer.json()["id"]: answer.json() for answer in answers}.values()
    assert all(answer.json() == job for answer in answers)

    await gateway.follow(job)
    assert len(await gateway.sandbox.submits(job)) == 1
    assert len((await gateway.http.get("/v1/jobs")).json()["data"]) == 1


async def test_rivals_with_different_bodies_make_one_job(gateway: Gateway) -> None:
    answers = await asyncio.gather(*(post(gateway, gateway.body()) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 19
    assert len((await gateway.http.get("/v1/jobs")).json()["data"]) == 1


async def test_the_key_of_an_erased_job_makes_no_second_one(gateway: Gateway) -> None:
    body = gateway.body("sandbox:instant")
    job = (await post(gateway, body)).json()
    await gateway.follow(job)
    assert (await gateway.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204

    for answer in (await post(gateway, body), await post(gateway, gateway.body())):
        told = problem(answer)
        assert (told["status"], told["code"]) == (409, "idempotency_conflict")
        assert told["job"] == job["id"]
    gateway.wait(24 * 3600)
    assert (await post(gateway, body)).status_code == 202
