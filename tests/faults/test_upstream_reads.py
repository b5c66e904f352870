"""Status, result and cancel over a real socket: any failure may be tried again, by the caller."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from pydantic import SecretStr

from app.core.clock import SystemClock
from app.core.metrics import Metrics
from app.upstream.client import UpstreamClient
from app.upstream.errors import RefusedError, TryLaterError
from app.upstream.wire import CancelOutcome, RemoteResult, RemoteState, RemoteStatus
from tests.support.gateway import SEEDANCE, TOKEN
from tests.support.turns import turns
from tests.support.upstream import LONG, SOON, upstream
from tests.support.wire_server import (
    GZIP_BOMB,
    Line,
    answer,
    answers,
    full_backlog,
    refused_port,
    wire_server,
)

Call = Callable[[UpstreamClient, timedelta], Awaitable[object]]


def status(client: UpstreamClient, within: timedelta = LONG) -> Awaitable[RemoteStatus]:
    return client.status("req-1", timeout=within)


def result(client: UpstreamClient, within: timedelta = LONG) -> Awaitable[RemoteResult]:
    return client.result("req-1", timeout=within)


def cancel(client: UpstreamClient, within: timedelta = LONG) -> Awaitable[CancelOutcome]:
    return client.cancel("req-1", timeout=within)


every_call = pytest.mark.parametrize("call", [status, result, cancel])


async def test_each_call_asks_for_its_own_path() -> None:
    script = answers(
        answer(200, {"request_id": "req-1", "status": "in_queue", "queue_position": 3}),
        answer(
            200,
            {
                "status": "succeeded",
                "output": {"video": "https://x.invalid/a.mp4"},
                "cost": 0.1,
                "finished_at": "2026-11-22T11:00:01+01:00",
            },
        ),
        answer(202, {"status": "completed", "outcome": "cancelled"}),
    )
    async with wire_server(script) as server, upstream(server.url + "/") as client:
        assert await status(client) == RemoteStatus(RemoteState.IN_QUEUE, 3)
        assert await result(client) == RemoteResult(
            state=RemoteState.SUCCEEDED,
            output={"video": "https://x.invalid/a.mp4"},
            error=None,
            cost_usd=Decimal("0.1"),
            finished_at=datetime(2026, 11, 22, 10, 0, 1, tzinfo=UTC),
        )
        assert await cancel(client) is CancelOutcome.CANCELLED
    assert [(each.method, each.target, each.body) for each in server.received] == [
        ("GET", "/v1/requests/req-1/status", b""),
        ("GET", "/v1/requests/req-1/result?include_cost=true", b""),
        ("POST", "/v1/requests/req-1/cancel", b""),
    ]
    assert {each.headers["authorization"] for each in server.received} == {f"Bearer {TOKEN}"}
    assert not any("content-type" in each.headers for each in server.received)


@every_call
async def test_a_server_out_of_reach_is_tried_later(call: Call) -> None:
    with refused_port() as url:
        async with upstream(url) as client:
            with pytest.raises(TryLaterError):
                await call(client, LONG)


async def test_a_call_that_ended_leaves_no_timer_behind() -> None:
    failures = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, failure: failures.append(failure))
    with refused_port() as url:
        async with upstream(url) as client:
            with pytest.raises(TryLaterError):
                await status(client, SOON / 5)
    await SystemClock().sleep(SOON / 2)
    assert not failures


async def test_a_connect_time_out_is_tried_later() -> None:
    with full_backlog() as url:
        async with upstream(url) as client:
            with pytest.raises(TryLaterError):
                await status(client, SOON)


@every_call
async def test_a_lost_answer_is_tried_later_but_not_by_any_layer(call: Call) -> None:
    async def close(line: Line) -> None:
        await line.request()

    async def reset(line: Line) -> None:
        await line.request()
        line.reset()

    async with wire_server(close, reset) as server, upstream(server.url) as client:
        for sent in (1, 2):
            with pytest.raises(TryLaterError) as caught:
                await call(client, LONG)
            assert caught.value.outage
            assert (server.connections, len(server.received)) == (sent, sent)


@every_call
async def test_a_broken_kept_connection_is_not_replaced_behind_our_back(call: Call) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(answer(500))
        await line.request()

    async with wire_server(script) as server, upstream(server.url) as client:
        for _ in range(2):
            with pytest.raises(TryLaterError):
                await call(client, LONG)
        assert (server.connections, len(server.received)) == (1, 2)


async def test_an_answer_that_takes_too_long_is_tried_later() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.wait_for_the_other_end()

    async with wire_server(script) as server, upstream(server.url) as client:
        with pytest.raises(TryLaterError):
            await status(client, SOON)


@every_call
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(408, {}), id="408"),
        pytest.param(answer(429, {}), id="429"),
        pytest.param(answer(500, {"error_message": "oh"}), id="500"),
        pytest.param(answer(502, {"error_code": 404001}), id="502 that speaks of a 404"),
        pytest.param(answer(504, raw=b"<html>Gateway Timeout</html>"), id="504 in HTML"),
        pytest.param(answer(404, raw=b"<html>Not Found</html>"), id="404 in HTML"),
        pytest.param(answer(200, raw=b"<html>Welcome</html>"), id="200 in HTML"),
        pytest.param(answer(200, {}), id="200 that says nothing"),
        pytest.param(answer(200, {"status": 7}), id="200 with a number for a status"),
        pytest.param(answer(200, {"error_code": 429001}), id="200 that speaks of a 429"),
        pytest.param(answer(302, {"status": "completed"}, Location="/"), id="302"),
        pytest.param(answer(200, raw=b"[" * 100_000), id="200 nested too deep"),
        pytest.param(answer(200, raw=b"9" * 10_000), id="200 with a number too long"),
        pytest.param(
            answer(200, raw=b" " * 73 * 2**20 + b'{"status": "failed", "outcome": "cancelled"}'),
            id="more than 72 MiB",
        ),
        pytest.param(answer(200, raw=GZIP_BOMB, Content_Encoding="gzip"), id="a gzip bomb"),
    ],
)
async def test_what_tells_nothing_is_tried_later(call: Call, data: bytes) -> None:
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        with pytest.raises(TryLaterError):
            await call(client, LONG)
        assert len(server.received) == 1


async def test_the_wait_that_upstream_asks_for_is_passed_on() -> None:
    data = answer(503, {}, Retry_After="12")
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        with pytest.raises(TryLaterError) as caught:
            await status(client)
    assert caught.value.retry_after == timedelta(seconds=12)


@every_call
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (answer(404, {"error_code": 404001, "error_message": "expired"}), "404001"),
        (answer(404, {"detail": "expired"}), None),
        (answer(400, {"error_code": "404001", "error": {"message": "expired"}}), "404001"),
        (answer(200, {"error_code": 404001, "message": "expired", "status": "failed"}), "404001"),
    ],
)
async def test_a_record_that_is_gone_is_told_by_its_code(
    call: Call, data: bytes, code: str | None
) -> None:
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        with pytest.raises(RefusedError) as caught:
            await call(client, LONG)
    assert (caught.value.message, caught.value.error_code) == ("expired", code)
    assert not caught.value.account_problem


async def test_a_wrong_token_is_told_apart() -> None:
    data = answer(400, {"error_code": 400004, "error_message": "token expired"})
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        with pytest.raises(RefusedError) as caught:
            await status(client)
    assert caught.value.account_problem


@pytest.mark.parametrize("request_id", ["", "..", "\ud800"])
async def test_a_request_id_that_is_no_name_is_refused_unsent(request_id: str) -> None:
    async with wire_server(answers(answer(200))) as server, upstream(server.url) as client:
        with pytest.raises(RefusedError):
            await client.status(request_id, timeout=LONG)
        assert server.connections == 0


class _Large(httpx.AsyncBaseTransport, httpx.AsyncByteStream):
    """Answers everybody with more than a megabyte, the end of which is yet to come."""

    def __init__(self) -> None:
        self.read_on = 0
        self.may_end = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b" " * (2**20 + 1)
        self.read_on += 1
        await self.may_end.wait()
        yield b'{"status": "in_queue", "request_id": "req-1"}'


async def test_few_large_answers_are_read_at_once_and_no_submit_waits_for_them() -> None:
    large = _Large()
    async with httpx.AsyncClient(transport=large) as http, asyncio.TaskGroup() as group:
        client = UpstreamClient(
            base_url="http://x",
            token=SecretStr("t"),
            submits=http,
            reads=http,
            metrics=Metrics(),
            clock=SystemClock(),
        )
        reads = [group.create_task(client.status("req-1", timeout=LONG)) for _ in range(6)]
        await turns()
        assert large.read_on == 4
        submit = group.create_task(client.submit(SEEDANCE, {}, timeout=LONG))
        await turns()
        assert large.read_on == 5
        large.may_end.set()
    assert submit.result() == "req-1"
    assert {read.result().state for read in reads} == {RemoteState.IN_QUEUE}
