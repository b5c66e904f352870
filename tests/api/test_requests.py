"""RunComfy's own calls: its bodies, words, codes and errors, with jobs of ours behind them."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.gateway import PUBLIC_URL, SEEDANCE, Gateway

pytestmark = pytest.mark.either_database


async def post(gateway: Gateway, words: str = "", **headers: str) -> httpx.Response:
    body = gateway.body(words)["input"]
    return await gateway.http.post(f"/v1/models/{SEEDANCE}", json=body, headers=headers)


async def submit(gateway: Gateway, words: str = "") -> str:
    answer = await post(gateway, words)
    assert answer.status_code == 200, answer.text
    request_id: str = answer.json()["request_id"]
    return request_id


async def ask(gateway: Gateway, request_id: str, call: str) -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/requests/{request_id}/{call}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def cancel(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """Cancel while the workers work and time goes by, as it does in a gateway that runs."""
    path = f"/v1/requests/{request_id}/cancel"
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(gateway.http.post(path))
        while not asked.done():
            await gateway.poll()
            gateway.wait(0.1)
    answer = asked.result()
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def links(request_id: str, *calls: str) -> dict[str, str]:
    return {f"{call}_url": f"{PUBLIC_URL}/v1/requests/{request_id}/{call}" for call in calls}


async def test_a_request_lives_as_at_runcomfy_and_is_a_job(gateway: Gateway) -> None:
    price = {"model": SEEDANCE, "base_price_usd": "0.15", "price_unit": "second"}
    await gateway.admin.put("/v1/admin/prices", json={"prices": [price]})
    answer = await post(gateway, "sandbox:queue=60 sandbox:slow=30")
    assert answer.status_code == 200
    assert answer.headers["X-Request-Id"]
    assert "gateway;dur=" in answer.headers["Server-Timing"]
    id_ = answer.json()["request_id"]
    assert answer.json() == {"request_id": id_, **links(id_, "status", "result", "cancel")}
    job = await gateway.read({"id": id_})
    assert (job["status"], job["model"], job["metadata"]) == ("pending", SEEDANCE, {})

    status = await ask(gateway, id_, "status")
    waiting = {"request_id": id_, "status": "in_queue", "queue_position": job["pending_position"]}
    assert job["pending_position"] is not None
    assert status == waiting | links(id_, "status", "result")
    at = "2026-11-22T10:00:00.000Z"
    running = {"request_id": id_, "status": "in_queue", "created_at": at}
    assert await ask(gateway, id_, "result?include_cost=true") == running

    job = await gateway.follow(job, lambda job: job["queue_position"] is not None)
    assert (await ask(gateway, id_, "status"))["queue_position"] == job["queue_position"]
    job = await gateway.follow(job, lambda job: job["status"] == "in_progress")
    status = await ask(gateway, id_, "status")
    assert (status["status"], "queue_position" in status) == ("in_progress", False)
    job = await gateway.follow(job)
    assert (await ask(gateway, id_, "status"))["status"] == "completed"
    result = await ask(gateway, id_, "result")
    assert result == running | {
        "status": "succeeded",
        "output": job["output"],
        "finished_at": job["finished_at"],
    }
    assert await ask(gateway, id_, "result?include_cost=true&whatever=1") == result | {"cost": 0.3}

    transport = httpx.ASGITransport(app=gateway.app)
    async with httpx.AsyncClient(transport=transport) as anybody:
        film = await anybody.get(result["output"]["video"])
    assert (film.status_code, film.headers["Content-Type"]) == (200, "video/mp4")


async def test_a_request_without_a_price_succeeds_without_a_cost(gateway: Gateway) -> None:
    id_ = (await post(gateway, "sandbox:instant")).json()["request_id"]
    await gateway.follow({"id": id_})
    result = await ask(gateway, id_, "result?include_cost=true")
    assert (result["status"], "cost" in result) == ("succeeded", False)


async def test_a_request_in_queue_always_has_a_position(gateway: Gateway) -> None:
    id_ = await submit(gateway, "sandbox:stuck-in-queue sandbox:no-position")
    (attempt,) = await gateway.workers.dispatcher.claim(1)
    being_sent = await ask(gateway, id_, "status")
    await gateway.workers.dispatcher.dispatch(attempt)
    sent = await ask(gateway, id_, "status")
    await gateway.poll()
    unsaid = await ask(gateway, id_, "status")
    for status in (being_sent, sent, unsaid):
        assert (status["status"], status["queue_position"]) == ("in_queue", 0)


async def test_a_failed_request_is_completed_in_status_and_failed_in_result(
    gateway: Gateway,
) -> None:
    id_ = await submit(gateway, "sandbox:instant sandbox:fail")
    job = await gateway.follow({"id": id_})
    assert job["status"] == "failed"
    assert (await ask(gateway, id_, "status"))["status"] == "completed"
    result = await ask(gateway, id_, "result?include_cost=true")
    assert result == {
        "request_id": id_,
        "status": "failed",
        "error": {"type": job["error"]["code"], "message": job["error"]["message"]},
        "cost": 0.0,
        "created_at": job["created_at"],
        "finished_at": job["finished_at"],
    }


async def test_a_request_of_unknown_outcome_is_still_in_progress(gateway: Gateway) -> None:
    id_ = await submit(gateway, "sandbox:lost-answer")
    await gateway.dispatch()
    assert (await gateway.read({"id": id_}))["status"] == "submit_unknown"
    assert (await ask(gateway, id_, "status"))["status"] == "in_progress"
    assert (await ask(gateway, id_, "result"))["status"] == "in_progress"
    refused = {"request_id": id_, "status": "in_progress", "outcome": "not_cancellable"}
    assert await cancel(gateway, id_) == refused


async def test_a_cancel_is_told_by_its_outcome(gateway: Gateway) -> None:
    waiting = await submit(gateway)
    granted = {"request_id": waiting, "status": "cancelled", "outcome": "cancelled"}
    assert await cancel(gateway, waiting) == granted
    assert await cancel(gateway, waiting) == granted
    assert (await ask(gateway, waiting, "status"))["status"] == "cancelled"
    result = await ask(gateway, waiting, "result?include_cost=true")
    assert (result["status"], result["cost"], "output" in result) == ("cancelled", 0.0, False)

    queued = await submit(gateway, "sandbox:stuck-in-queue")
    await gateway.follow({"id": queued}, lambda job: job["status"] == "in_queue")
    assert (await cancel(gateway, queued))["outcome"] == "cancelled"

    running = await submit(gateway, "sandbox:queue=0 sandbox:stuck")
    await gateway.follow({"id": running}, lambda job: job["status"] == "in_progress")
    runs_on = {"request_id": running, "status": "in_progress", "outcome": "not_cancellable"}
    assert await cancel(gateway, running) == runs_on

    done = await submit(gateway, "sandbox:instant")
    await gateway.follow({"id": done})
    over = {"request_id": done, "status": "completed", "outcome": "not_cancellable"}
    assert await cancel(gateway, done) == over


async def test_a_cancel_during_the_submit_is_answered_after_it(gateway: Gateway) -> None:
    id_ = await submit(gateway, "sandbox:stuck-in-queue")
    (attempt,) = await gateway.workers.dispatcher.claim(1)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(gateway.http.post(f"/v1/requests/{id_}/cancel"))
        for _ in range(10):  # it looks, too, and sees that nothing was sent yet
            assert (await ask(gateway, id_, "status"))["status"] == "in_queue"
        assert not asked.done()
        await gateway.workers.dispatcher.dispatch(attempt)
        while not asked.done():
            await gateway.poll()
            gateway.wait(0.1)
    granted = {"request_id": id_, "status": "cancelled", "outcome": "cancelled"}
    assert asked.result().json() == granted


async def test_bad_input_is_refused_as_runcomfy_does(gateway: Gateway) -> None:
    body = {"prompt": "x", "first_frame_image_url": "https://example.com/a.png"}
    answer = await gateway.http.post(
        f"/v1/models/{SEEDANCE}", json=body | {"duration": 99, "durration": 2, "prompt": 7}
    )
    told = answer.json()
    assert (answer.status_code, told["error_code"]) == (422, 422001)
    assert [(each["loc"], each["type"]) for each in told["detail"]] == [
        (["body", "prompt"], "type"),
        (["body", "duration"], "enum"),
        (["body", "durration"], "unknown_field"),
    ]
    assert told["error_message"] == " ".join(each["msg"] for each in told["detail"])
    assert all(each["msg"] for each in told["detail"])

    path = f"/v1/models/{SEEDANCE}"
    for content, status, code in (
        (b"[1]", 422, 422001),
        (b'{"prompt":', 400, 400001),
        (b"{}", 422, 422001),
        (b"", 400, 400001),
    ):
        headers = {"Content-Type": "application/json"}
        answer = await gateway.http.post(path, content=content, headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (status, code), content
    answer = await gateway.http.post(path, content=b"{}", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["error_code"]) == (415, 415001)
    answer = await post(gateway, **{"Idempotency-Key": "two words"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (
        422,
        ["header", "Idempotency-Key"],
    )
    limits = {"spend_usd_per_day": {"limit": "1"}}
    await gateway.admin.patch("/v1/admin/users/alice", json={"limits": limits})
    (unpriced,) = (await post(gateway)).json()["detail"]
    assert (unpriced["loc"], unpriced["type"]) == (["path", "model_id"], "price_unknown")
    assert (await gateway.http.get("/v1/jobs")).json()["data"] == []


async def test_unknown_models_and_requests_have_runcomfys_codes(gateway: Gateway) -> None:
    for model in ("nobody/knows", SEEDANCE.upper(), "categories", "", "a/b/c/d/e/f", "a%0Ab"):
        answer = await gateway.http.post(f"/v1/models/{model}", json={"prompt": "x"})
        assert (answer.status_code, answer.json()["error_code"]) == (400, 400001), model
    bob = await gateway.client_of("bob")
    alices = await submit(gateway)
    for id_ in (alices, "req_unknown", "job_%00", "x" * 300):
        for method, call in (("GET", "status"), ("GET", "result"), ("POST", "cancel")):
            answer = await bob.request(method, f"/v1/requests/{id_}/{call}")
            assert (answer.status_code, answer.json()["error_code"]) == (404, 404001)
    assert (await gateway.read({"id": alices}))["status"] == "pending"


async def test_other_paths_and_methods_have_its_shape_and_redirect_nowhere(
    gateway: Gateway,
) -> None:
    id_ = await submit(gateway)
    for method, path, status in (
        ("GET", f"/v1/requests/{id_}/status/", 404),
        ("GET", f"/v1/requests/{id_}", 404),
        ("GET", "/v1/requests", 404),
        ("GET", "/v1/requests/", 404),
        ("POST", f"/v1/requests/{id_}/status", 405),
        ("GET", f"/v1/requests/{id_}/cancel", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/models/", 400),
        ("POST", f"/v1/models/{SEEDANCE}/", 400),
        ("DELETE", f"/v1/models/{SEEDANCE}", 405),
    ):
        answer = await gateway.http.request(method, path, json={})
        assert answer.status_code == status, (method, path)
        assert answer.json()["error_code"] // 1000 == status
        assert answer.json()["error_message"]
        assert "Location" not in answer.headers


async def test_keys_scopes_and_users_count_here_too(gateway: Gateway) -> None:
    id_ = await submit(gateway)
    calls = (
        ("POST", f"/v1/models/{SEEDANCE}", "jobs:write"),
        ("POST", f"/v1/requests/{id_}/cancel", "jobs:write"),
        ("GET", f"/v1/requests/{id_}/status", "jobs:read"),
        ("GET", f"/v1/requests/{id_}/result", "jobs:read"),
    )
    for scope, other in (("jobs:read", "jobs:write"), ("jobs:write", "jobs:read")):
        key = {"user": "alice", "scopes": [scope]}
        client = gateway.client_with(
            (await gateway.admin.post("/v1/admin/keys", json=key)).json()["key"]
        )
        for method, path, needed in calls:
            if needed == other:
                answer = await client.request(method, path, json={})
                assert (answer.status_code, answer.json()["error_code"]) == (403, 403001)
    nobody = gateway.client_with("rcg_no_such_key")
    for method, path, _ in calls:
        answer = await nobody.request(method, path, json={})
        assert (answer.status_code, answer.json()["error_code"]) == (401, 400004)

    shop = {"user": "shop", "scopes": ["jobs:read", "jobs:write", "act_as"]}
    await gateway.admin.post("/v1/admin/users", json={"id": "shop"})
    key = (await gateway.admin.post("/v1/admin/keys", json=shop)).json()["key"]
    service = gateway.client_with(key)
    body = gateway.body()["input"]
    u1 = {"X-Gateway-User": "u1"}
    made = (await service.post(f"/v1/models/{SEEDANCE}", json=body, headers=u1)).json()
    path = f"/v1/requests/{made['request_id']}/status"
    assert (await service.get(path, headers=u1)).status_code == 200
    assert (await service.get(path, headers={"X-Gateway-User": "u2"})).status_code == 404
    refused = await service.get(path, headers={"X-Gateway-User": "a/b"})
    assert refused.json()["detail"][0]["loc"] == ["header", "X-Gateway-User"]
    assert (await post(gateway, **u1)).json()["error_code"] == 403001


async def test_both_shapes_share_limits_and_idempotency_keys(gateway: Gateway) -> None:
    await gateway.admin.patch(
        "/v1/admin/users/alice",
        json={"limits": {"submits_per_minute": {"limit": 2}, "jobs_per_day": {"limit": 5}}},
    )
    body = gateway.body()
    path = f"/v1/models/{SEEDANCE}"
    headers = {"Idempotency-Key": "once"}
    first = await gateway.http.post(path, json=body["input"], headers=headers)
    again = await gateway.http.post(path, json=body["input"], headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    for answer in (
        await gateway.http.post(path, json=body["input"] | {"duration": 3}, headers=headers),
        await gateway.http.post("/v1/models/other/model", json=body["input"], headers=headers),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (409, 409001)
    other_shape = await gateway.http.post("/v1/jobs", json=body, headers=headers)
    assert other_shape.json()["code"] == "idempotency_conflict"

    assert (await gateway.http.post("/v1/jobs", json=gateway.body())).status_code == 202
    refused = await post(gateway)
    assert (refused.status_code, refused.json()["error_code"]) == (429, 429001)
    assert refused.headers["Retry-After"] == "30"
    assert '"jobs_per_day";r=3' in refused.headers["RateLimit"]
    assert "submits_per_minute" in refused.json()["error_message"]
    gateway.wait(30)
    assert (await post(gateway)).status_code == 200
