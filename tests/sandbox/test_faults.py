"""Every fault on every call, over a real socket."""

import re
import socket
from typing import Any

import anyio
import httpx
import pytest

from app.sandbox import SandboxConfig, create_sandbox, running_sandbox
from app.sandbox.scenarios import FAULTS
from tests.sandbox.caller import SEEDANCE, Sandbox

LOST = {
    "reset": httpx.ReadError,
    "half": httpx.RemoteProtocolError,
    "hang": httpx.ReadTimeout,
}
HTML = ("html", "502", "504")
FINE = ("html", "empty", "junk", "no-id", "error-200")


def check(fault: str, answer: httpx.Response) -> None:
    """Assert that an answer is what the fault promises."""
    expected = 200 if fault in FINE else int(fault[:3])
    assert answer.status_code == expected
    if fault in HTML:
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.text.startswith("<!doctype html>")
    elif fault == "empty":
        assert answer.content == b""
    elif fault == "junk":
        assert isinstance(answer.json(), list)
    elif fault == "no-id":
        assert answer.json()
        assert "request_id" not in answer.json()
    else:
        named = {"error-200": 500000, "422": 422001, "429": 429001}
        code = named.get(fault) or int(fault.ljust(6, "0"))
        assert answer.json()["error_code"] == code
        assert ("detail" in answer.json()) == (fault == "422")


async def meet(fault: str, sandbox: Sandbox, call: str, *arguments: Any) -> None:
    """Make a call and assert that it meets the fault; wait little for answers that never come."""
    made = getattr(sandbox, call)
    if fault in LOST:
        patience, sandbox.http.timeout = sandbox.http.timeout, httpx.Timeout(0.3)
        with pytest.raises(LOST[fault]):
            await made(*arguments)
        sandbox.http.timeout = patience
    else:
        check(fault, await made(*arguments))


every_fault = pytest.mark.parametrize("fault", FAULTS)
# All calls make their faults in one place.
some_faults = pytest.mark.parametrize("fault", ["reset", "half", "html", "empty", "404001", "504"])


@every_fault
async def test_a_submit_that_meets_a_fault_is_not_accepted(sandbox: Sandbox, fault: str) -> None:
    given = sandbox.input(f"sandbox:submit-{fault}")
    await meet(fault, sandbox, "post", given)
    assert await sandbox.seen(given) == [False]
    assert (await sandbox.post(given)).json()["request_id"]
    assert await sandbox.seen(given) == [False, True]


@every_fault
async def test_a_lost_answer_is_an_accepted_submit(sandbox: Sandbox, fault: str) -> None:
    given = sandbox.input(f"sandbox:lost-answer={fault}")
    await meet(fault, sandbox, "post", given)
    assert await sandbox.seen(given) == [True]


@some_faults
async def test_polls_meet_a_fault_and_then_the_truth(sandbox: Sandbox, fault: str) -> None:
    request_id = await sandbox.submit(f"sandbox:instant sandbox:poll-{fault}=2")
    await meet(fault, sandbox, "status", request_id)
    await meet(fault, sandbox, "result", request_id)
    assert (await sandbox.status(request_id)).json()["status"] == "completed"


@some_faults
async def test_only_results_meet_a_result_fault(sandbox: Sandbox, fault: str) -> None:
    request_id = await sandbox.submit(f"sandbox:instant sandbox:result-{fault}=1")
    assert (await sandbox.status(request_id)).json()["status"] == "completed"
    await meet(fault, sandbox, "result", request_id)
    assert (await sandbox.result(request_id)).json()["status"] == "succeeded"


@some_faults
async def test_a_cancel_that_meets_a_fault_cancels_nothing(sandbox: Sandbox, fault: str) -> None:
    request_id = await sandbox.submit(f"sandbox:cancel-{fault}")
    await meet(fault, sandbox, "cancel", request_id)
    assert (await sandbox.status(request_id)).json()["status"] == "in_queue"
    assert (await sandbox.cancel(request_id)).json()["outcome"] == "cancelled"


@some_faults
async def test_a_lost_cancel_is_carried_out(sandbox: Sandbox, fault: str) -> None:
    request_id = await sandbox.submit(f"sandbox:lost-cancel={fault}")
    await meet(fault, sandbox, "cancel", request_id)
    assert (await sandbox.status(request_id)).json()["status"] == "cancelled"
    assert (await sandbox.cancel(request_id)).json()["outcome"] == "not_cancellable"


async def test_without_a_number_three_polls_meet_the_fault(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:instant sandbox:poll-504")
    polls = [(await sandbox.status(request_id)).status_code for _ in range(4)]
    assert polls == [504, 504, 504, 200]


async def test_half_an_answer_is_really_half(sandbox: Sandbox) -> None:
    given = sandbox.input("sandbox:lost-answer=half")
    request = sandbox.http.build_request("POST", "/v1/models/" + SEEDANCE, json=given)
    answer = await sandbox.http.send(request, stream=True)
    chunks = answer.aiter_bytes()
    assert len(await anext(chunks)) == int(answer.headers["content-length"]) // 2
    with pytest.raises(httpx.RemoteProtocolError):
        await anext(chunks)


async def test_a_request_can_be_cut_with_its_body_unread(sandbox: Sandbox) -> None:
    """Send the word and hold the rest back: the reset comes while the server could still read."""
    port = sandbox.http.base_url.port or 0
    head = (
        f"POST /v1/models/{SEEDANCE} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer t\r\n"
        "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send((head + '{"prompt": "sandbox:cut-request').encode())
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await stream.receive()
    seen = (await sandbox.http.get("/sandbox/requests")).json()["requests"][-1]
    assert (seen["input"], seen["accepted"]) == (None, False)


async def test_without_a_socket_a_reset_is_still_an_error(config: SandboxConfig) -> None:
    app = create_sandbox(config)
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": "Bearer t"}
    given = {"prompt": "sandbox:lost-answer", "first_frame_image_url": "data:,"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://s", headers=headers) as http,
    ):
        with pytest.raises(ConnectionResetError):
            await http.post(f"/v1/models/{SEEDANCE}", json=given)


async def test_an_answer_that_hangs_does_not_hold_up_the_stop(config: SandboxConfig) -> None:
    given = b'{"prompt": "sandbox:submit-hang", "first_frame_image_url": "data:,"}'
    async with running_sandbox(config, port=0) as base:
        port = int(re.findall(r"\d+$", base)[0])
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            head = (
                f"POST /v1/models/{SEEDANCE} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer t\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(given)}\r\n\r\n"
            )
            waiting.sendall(head.encode() + given)
            async with httpx.AsyncClient(base_url=base, timeout=60) as http:
                while not (await http.get("/sandbox/requests")).json()["requests"]:
                    pass
