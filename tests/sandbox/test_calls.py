"""The calls as RunComfy documents them."""

from typing import Any

import httpx
import pytest

from app.core.clock import ManualClock
from app.sandbox import SandboxConfig, create_sandbox, running_sandbox
from tests.sandbox.caller import Sandbox


async def test_a_job_queues_works_and_succeeds(sandbox: Sandbox) -> None:
    given = sandbox.input("sandbox:queue=10 sandbox:slow=20")
    answer = await sandbox.post(given)
    request_id = answer.json()["request_id"]
    base = str(sandbox.http.base_url).rstrip("/")
    links = {
        "status_url": f"{base}/v1/requests/{request_id}/status",
        "result_url": f"{base}/v1/requests/{request_id}/result",
    }
    cancel = f"{base}/v1/requests/{request_id}/cancel"
    assert answer.status_code == 200
    assert answer.json() == {"request_id": request_id, **links, "cancel_url": cancel}

    positions = []
    for _ in range(4):
        status = (await sandbox.status(request_id)).json()
        positions.append(status.pop("queue_position"))
        assert status == {"request_id": request_id, "status": "in_queue", **links}
        sandbox.wait(2.5)
    assert positions == [3, 2, 1, 0]

    status = (await sandbox.status(request_id)).json()
    assert status == {"request_id": request_id, "status": "in_progress", **links}
    result = (await sandbox.result(request_id)).json()
    created_at = result.pop("created_at")
    assert result == {"request_id": request_id, "status": "in_progress"}

    sandbox.wait(20)
    status = (await sandbox.status(request_id)).json()
    assert status == {"request_id": request_id, "status": "completed", **links}
    result = (await sandbox.result(request_id)).json()
    assert created_at < result.pop("finished_at")
    assert result == {
        "request_id": request_id,
        "status": "succeeded",
        "created_at": created_at,
        "output": {"video": f"{base}/outputs/{request_id}/0.mp4"},
        "cost": 0.5,
    }


async def test_the_cost_is_told_to_those_who_ask(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:instant", duration=12)
    assert (await sandbox.result(request_id)).json()["cost"] == 1.2
    plain = await sandbox.http.get(f"/v1/requests/{request_id}/result")
    assert "cost" not in plain.json()


async def test_a_queued_job_can_be_cancelled_once(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit()
    answer = await sandbox.cancel(request_id)
    assert answer.status_code == 202
    assert answer.json() == {
        "request_id": request_id,
        "status": "cancelled",
        "outcome": "cancelled",
    }
    assert (await sandbox.status(request_id)).json()["status"] == "cancelled"
    again = (await sandbox.cancel(request_id)).json()
    assert again["outcome"] == "not_cancellable"
    sandbox.wait(60)
    assert (await sandbox.result(request_id)).json()["status"] == "cancelled"


async def test_a_running_job_cannot_be_cancelled_and_runs_on(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:queue=0 sandbox:slow=5")
    answer = (await sandbox.cancel(request_id)).json()
    assert answer == {
        "request_id": request_id,
        "status": "in_progress",
        "outcome": "not_cancellable",
    }
    sandbox.wait(5)
    assert (await sandbox.result(request_id)).json()["status"] == "succeeded"


@pytest.mark.parametrize("call", ["status", "result", "cancel"])
async def test_an_unknown_request_is_404001(sandbox: Sandbox, call: str) -> None:
    answer = await getattr(sandbox, call)("req_nobody")
    assert answer.status_code == 404
    assert answer.json()["error_code"] == 404001


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer ", "Basic secret", "Bearer wrong"])
async def test_a_call_without_the_token_is_400004(
    config: SandboxConfig, header: str | None
) -> None:
    app = create_sandbox(SandboxConfig(config.directory, token="secret"), clock=ManualClock())
    headers = {"Authorization": header} if header else {}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://s", headers=headers) as http,
    ):
        answer = await http.get("/v1/models")
        samples = await http.get("/sandbox/requests")
    assert answer.status_code == 400
    assert answer.json()["error_code"] == 400004
    assert samples.json() == {"requests": [], "calls": {}}


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"{}", "text/plain", 400001),
        (b"{", "application/json", 400001),
        (b'{"a": NaN}', "application/json", 400001),
        (b'{"prompt": "half of \\ud83d"}', "application/json", 400001),
        (b"[1]", "application/json; charset=utf-8", 422001),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    sandbox: Sandbox, content: bytes, kind: str, code: int
) -> None:
    url = "/v1/models/bytedance/seedance-1-0/pro/image-to-video"
    answer = await sandbox.http.post(url, content=content, headers={"Content-Type": kind})
    assert answer.status_code == code // 1000
    assert answer.json()["error_code"] == code
    assert (await sandbox.http.get("/sandbox/requests")).status_code == 200


async def test_an_unknown_model_is_400001(sandbox: Sandbox) -> None:
    answer = await sandbox.post({}, model="nobody/nothing")
    assert answer.status_code == 400
    assert answer.json()["error_code"] == 400001


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"prompt": 3}, {"loc": ["body", "prompt"], "type": "string_type"}),
        ({"duration": 13}, {"loc": ["body", "duration"], "type": "enum"}),
        ({"duration": "5"}, {"loc": ["body", "duration"], "type": "integer_type"}),
        ({"duration": True}, {"loc": ["body", "duration"], "type": "integer_type"}),
        ({"ratio": "5:4"}, {"loc": ["body", "ratio"], "type": "enum"}),
    ],
)
async def test_an_input_that_does_not_match_is_told_why(
    sandbox: Sandbox, change: dict[str, Any], complaint: dict[str, Any]
) -> None:
    answer = await sandbox.post(sandbox.input() | change)
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert detail.pop("msg")
    assert detail == complaint


async def test_a_missing_field_is_named(sandbox: Sandbox) -> None:
    answer = await sandbox.post({"prompt": "a fox"})
    expected = {
        "loc": ["body", "first_frame_image_url"],
        "msg": "Field required",
        "type": "missing",
    }
    assert answer.json()["detail"] == [expected]


async def test_a_mistyped_magic_word_is_refused(sandbox: Sandbox) -> None:
    given = sandbox.input("sandbox:fial")
    answer = await sandbox.post(given)
    assert answer.status_code == 422
    assert "did you mean 'fail'?" in answer.json()["error_message"]
    assert await sandbox.seen(given) == [False]


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/models/", 400), ("/v1/requests/r/status/", 404), ("/elsewhere", 404)]
)
async def test_no_path_redirects(sandbox: Sandbox, path: str, status: int) -> None:
    answer = await sandbox.http.get(path)
    assert answer.status_code == status
    assert answer.json()["error_code"] // 1000 == status


async def test_every_submit_and_every_call_is_seen(config: SandboxConfig) -> None:
    clock = ManualClock()
    given = {"prompt": "a fox", "first_frame_image_url": "data:,"}
    async with running_sandbox(config, clock=clock) as base:
        headers = {"Authorization": "Bearer t", "X-Extra": "1"}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as http:
            url = "/v1/models/bytedance/seedance-1-0/pro/image-to-video"
            request_id = (await http.post(url, json=given)).json()["request_id"]
            await http.post(url, json={})
            await http.get(f"/v1/requests/{request_id}/status")
            await http.get(f"/v1/requests/{request_id}/status")
            await http.get(f"/v1/requests/{request_id}/result")
            seen = (await http.get("/sandbox/requests")).json()
    first, second = seen["requests"]
    assert "x-extra" in first.pop("headers")
    assert first == {
        "request_id": request_id,
        "model_id": "bytedance/seedance-1-0/pro/image-to-video",
        "input": given,
        "received_at": clock.now().isoformat(),
        "accepted": True,
    }
    assert (second["request_id"], second["accepted"]) == (None, False)
    assert seen["calls"] == {request_id: {"status": 2, "result": 1, "cancel": 0}}
