"""A submit costs money: over a real socket, what each failure means and that nothing is resent."""
# ruff: noqa: ASYNC109 - handed on to the client

import asyncio
import gzip
import json
import time
from datetime import timedelta
from functools import reduce
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.core.clock import SystemClock
from app.core.metrics import Metrics
from app.upstream.client import UpstreamClient
from app.upstream.errors import (
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
    TryLaterError,
    UpstreamError,
)
from tests.support.gateway import SEEDANCE, TOKEN
from tests.support.turns import turns
from tests.support.upstream import LONG, SOON, upstream
from tests.support.wire_server import (
    GZIP_BOMB,
    Line,
    Script,
    answer,
    answers,
    full_backlog,
    refused_port,
    wire_server,
)

BODY: dict[str, Any] = {"prompt": "the camera drifts forward", "duration": 5}
TEN = "Sun, 22 Nov 2026 10:00:00 GMT"
ACCEPTED = answer(200, {"request_id": "req-1", "status_url": "https://upstream.invalid/status"})


async def failed(client: UpstreamClient, timeout: timedelta = LONG) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await client.submit(SEEDANCE, BODY, timeout=timeout)
    return caught.value


async def failed_by(*scripts: Script, sent: int, timeout: timedelta = LONG) -> UpstreamError:
    """Submit once to that server and give the error, when just `sent` requests came whole."""
    async with wire_server(*scripts) as server, upstream(server.url) as client:
        error = await failed(client, timeout)
        assert len(server.received) == sent
        assert server.connections == 1
    return error


async def test_an_accepted_submit_gives_its_request_id() -> None:
    async with wire_server(answers(ACCEPTED)) as server, upstream(server.url) as client:
        assert await client.submit(SEEDANCE, BODY, timeout=LONG) == "req-1"
    (received,) = server.received
    assert (received.method, received.target) == ("POST", f"/v1/models/{SEEDANCE}")
    assert received.body == b'{"prompt": "the camera drifts forward", "duration": 5}'
    assert received.headers["authorization"] == f"Bearer {TOKEN}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["accept-encoding"] == "identity"
    assert "transfer-encoding" not in received.headers


async def test_a_body_of_many_megabytes_arrives_whole() -> None:
    sent = {"image": "".join(map(str, range(500_000)))}
    async with wire_server(answers(ACCEPTED)) as server, upstream(server.url) as client:
        await client.submit(SEEDANCE, sent, timeout=LONG)
    assert json.loads(server.received[0].body) == sent


async def test_a_refused_port_is_surely_not_sent() -> None:
    with refused_port() as url:
        async with upstream(url) as client:
            assert type(await failed(client)) is NotSentError


async def test_an_unknown_host_is_surely_not_sent() -> None:
    async with upstream("http://no-such-host.invalid") as client:
        assert type(await failed(client)) is NotSentError


async def test_a_connect_time_out_is_surely_not_sent() -> None:
    with full_backlog() as url:
        async with upstream(url) as client:
            assert type(await failed(client, SOON)) is NotSentError


async def test_a_pool_time_out_is_surely_not_sent() -> None:
    arrived, refused = asyncio.Event(), asyncio.Event()

    async def busy(line: Line) -> None:
        await line.request()
        arrived.set()
        await refused.wait()
        await line.send(ACCEPTED)

    async with wire_server(busy) as server, upstream(server.url, connections=1) as client:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(client.submit(SEEDANCE, BODY, timeout=LONG))
            await arrived.wait()
            assert type(await failed(client, SOON)) is NotSentError
            refused.set()
        assert first.result() == "req-1"
        assert len(server.received) == 1


async def test_a_broken_tls_handshake_is_surely_not_sent() -> None:
    async def garbage(line: Line) -> None:
        await line.send(b"this is no TLS\r\n" * 8)

    async with (
        wire_server(garbage) as server,
        upstream(server.url.replace("http:", "https:")) as client,
    ):
        assert type(await failed(client)) is NotSentError


async def test_a_closed_client_is_surely_not_sent() -> None:
    async with wire_server(answers(ACCEPTED)) as server:
        async with upstream(server.url) as client:
            pass
        assert type(await failed(client)) is NotSentError
        assert server.connections == 0


@pytest.mark.parametrize(
    ("sent", "is_reset"),
    [
        pytest.param(b"", False, id="closed"),
        pytest.param(b"", True, id="reset"),
        pytest.param(ACCEPTED[:5], False, id="closed in the head"),
        pytest.param(ACCEPTED[:-40], False, id="closed before the body"),
        pytest.param(ACCEPTED[:-1], False, id="closed in the body"),
        pytest.param(ACCEPTED[:-5], True, id="reset in the body"),
        pytest.param(
            b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"request_id": "req',
            False,
            id="no length",
        ),
    ],
)
async def test_an_answer_that_breaks_off_leaves_it_unknown_and_is_not_resent(
    sent: bytes, *, is_reset: bool
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(sent)
        if is_reset:
            line.reset()

    error = await failed_by(script, sent=1)
    assert type(error) is OutcomeUnknownError
    assert error.outage


async def test_a_reset_before_the_body_was_read_leaves_it_unknown() -> None:
    async def script(line: Line) -> None:
        await line.head()
        line.reset()

    assert type(await failed_by(script, sent=0)) is OutcomeUnknownError


@pytest.mark.parametrize("length", [0, len(ACCEPTED) - 5])
async def test_an_answer_that_takes_too_long_leaves_it_unknown(length: int) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(ACCEPTED[:length])
        await line.wait_for_the_other_end()

    assert type(await failed_by(script, sent=1, timeout=SOON)) is OutcomeUnknownError


async def test_an_answer_that_came_while_the_process_was_frozen_counts() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(ACCEPTED)
        time.sleep(2 * SOON.total_seconds())  # noqa: ASYNC251 - the whole loop stands still

    async with wire_server(script) as server, upstream(server.url) as client:
        assert await client.submit(SEEDANCE, BODY, timeout=SOON) == "req-1"


async def test_an_answer_in_drops_is_bound_by_the_whole_time() -> None:
    async def script(line: Line) -> None:
        await line.request()
        for byte in ACCEPTED:
            await line.send(bytes([byte]))
            await asyncio.sleep(0.05)  # noqa: TID251 - the pace of a real server

    assert type(await failed_by(script, sent=1, timeout=SOON)) is OutcomeUnknownError


async def test_a_server_that_stops_reading_is_bound_by_the_whole_time() -> None:
    given_up = asyncio.Event()

    async def script(line: Line) -> None:
        await line.head()
        await given_up.wait()

    async with wire_server(script) as server, upstream(server.url) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.submit(SEEDANCE, {"image": "x" * 20_000_000}, timeout=SOON)
        given_up.set()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(500, {"error_message": "oh"}), id="500"),
        pytest.param(answer(502, raw=b"<html>Bad Gateway</html>"), id="502 in HTML"),
        pytest.param(answer(504, raw=b""), id="504"),
        pytest.param(answer(408, {"message": "slow"}), id="408"),
        pytest.param(answer(500, {"error_code": 400001}), id="500 that speaks of a 400"),
        pytest.param(answer(200, raw=b"<html>all is well</html>"), id="200 in HTML"),
        pytest.param(answer(200, raw=b""), id="200 empty"),
        pytest.param(answer(200, {"status": "in_queue"}), id="200 without an id"),
        pytest.param(answer(200, {"request_id": "../../me"}), id="200 with no such id"),
        pytest.param(answer(200, {"request_id": None}), id="200 with a null id"),
        pytest.param(answer(200, ["req-1"]), id="200 with a list"),
        pytest.param(answer(200, {"error_code": 500001}), id="200 that speaks of a 500"),
        pytest.param(answer(200, {"error_code": 0}), id="200 with code zero"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param(b"220 smtp ready\r\n\r\n", id="not HTTP"),
        pytest.param(
            answer(200, raw=b" " * 73 * 2**20 + b'{"request_id": "req-1"}'), id="more than 72 MiB"
        ),
        pytest.param(answer(200, raw=GZIP_BOMB, Content_Encoding="gzip"), id="a gzip bomb"),
    ],
)
async def test_an_answer_that_settles_nothing_leaves_it_unknown(data: bytes) -> None:
    assert type(await failed_by(answers(data), sent=1)) is OutcomeUnknownError


async def test_the_id_in_a_packed_answer_is_found() -> None:
    packed = answer(200, raw=gzip.compress(b'{"request_id": "req-1"}'), Content_Encoding="gzip")
    async with wire_server(answers(packed)) as server, upstream(server.url) as client:
        assert await client.submit(SEEDANCE, BODY, timeout=LONG) == "req-1"


@pytest.mark.parametrize("status", [301, 303, 307])
async def test_a_redirect_is_not_followed_and_leaves_it_unknown(status: int) -> None:
    async with wire_server(answers(ACCEPTED)) as elsewhere:
        moved = answer(status, {}, Location=f"{elsewhere.url}/v1/models/{SEEDANCE}")
        assert type(await failed_by(answers(moved), sent=1)) is OutcomeUnknownError
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(200, {"request_id": "req-1", "error_code": 500001}), id="a code"),
        pytest.param(answer(429, {"request_id": "req-1"}), id="a 429"),
        pytest.param(answer(500, {"request_id": "req-1"}), id="a 500"),
        pytest.param(answer(202, {"request_id": "req-1", "error_code": None}), id="a 202"),
    ],
)
async def test_a_request_id_means_accepted_also_beside(data: bytes) -> None:
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        assert await client.submit(SEEDANCE, BODY, timeout=LONG) == "req-1"


@pytest.mark.parametrize(
    ("status", "code"), [(400, 400001), (401, None), (402, None), (403, 403001), (404, 404001)]
)
async def test_a_4xx_is_refused_with_its_words(status: int, code: int | None) -> None:
    body = {"error_code": code, "error_message": "no", "request_id": "of-the-exchange"}
    error = await failed_by(answers(answer(status, body)), sent=1)
    assert type(error) is RefusedError
    assert (error.message, error.status) == ("no", status)
    assert error.error_code == (str(code) if code else None)


async def test_a_422_names_the_field() -> None:
    detail = [{"loc": ["body", "duration"], "msg": "at most 12", "type": "le", "input": "secret"}]
    error = await failed_by(answers(answer(422, {"detail": detail})), sent=1)
    assert type(error) is RefusedError
    assert error.message == "duration: at most 12"


@pytest.mark.parametrize(
    ("code", "is_ours"),
    [(400002, True), ("400002", True), (400004, True), ("400004", True), ("NSFW", False)],
)
async def test_an_error_code_under_200_is_a_refusal(code: int | str, *, is_ours: bool) -> None:
    error = await failed_by(answers(answer(200, {"error_code": code, "message": "no"})), sent=1)
    assert isinstance(error, RefusedError)
    assert (error.status, error.error_code, error.account_problem) == (200, str(code), is_ours)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry_After": "7"}, timedelta(seconds=7)),
        ({"Retry_After": "-7"}, None),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "999999"}, timedelta(hours=1)),
        ({"Retry_After": "9" * 5000}, None),
        ({"Date": TEN, "Retry_After": "Sun, 22 Nov 2026 10:00:30 GMT"}, timedelta(seconds=30)),
        ({"Date": TEN, "Retry_After": "Sat, 21 Nov 2026 10:00:00 GMT"}, timedelta()),
        ({"Retry_After": "Sun, 22 Nov 2026 10:00:30 GMT"}, None),
        ({"Date": TEN, "Retry_After": "Sun, 22 Nov 2026 10:00:30 -0000"}, None),
        ({"Date": TEN, "Retry_After": f"Sun, 22 Nov {'9' * 20} 10:00:30 GMT"}, None),
    ],
)
async def test_a_429_without_an_id_may_be_tried_later(
    headers: dict[str, Any], wait: timedelta | None
) -> None:
    data = answer(429, {"error_message": "slow down"}, **headers)
    error = await failed_by(answers(data), sent=1)
    assert type(error) is TryLaterError
    assert (error.message, error.status, error.retry_after) == ("slow down", 429, wait)


async def test_the_operator_says_which_statuses_mean_not_accepted() -> None:
    statuses = frozenset({409, 503})
    script = answers(answer(503), answer(429), answer(409, {"request_id": "req-1"}))
    async with (
        wire_server(script) as server,
        upstream(server.url, submit_retry_statuses=statuses) as client,
    ):
        assert type(await failed(client)) is TryLaterError
        assert type(await failed(client)) is OutcomeUnknownError
        assert await client.submit(SEEDANCE, BODY, timeout=LONG) == "req-1"


@pytest.mark.parametrize("policy", [{"Link": "a" * 50_000}, {f"X-{n}": "a" for n in range(500)}])
async def test_an_answer_may_have_a_long_head(policy: dict[str, str]) -> None:
    data = answer(200, {"request_id": "req-1"}, **policy)
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        assert await client.submit(SEEDANCE, BODY, timeout=LONG) == "req-1"


async def test_a_kept_connection_carries_the_next_submit() -> None:
    async with wire_server(answers(ACCEPTED, ACCEPTED)) as server, upstream(server.url) as client:
        for _ in range(2):
            await client.submit(SEEDANCE, BODY, timeout=LONG)
        assert (server.connections, len(server.received)) == (1, 2)


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    gone = asyncio.Event()

    async def once(line: Line) -> None:
        await line.request()
        await line.send(ACCEPTED)
        line.hang_up()
        gone.set()

    async with wire_server(once) as server, upstream(server.url) as client:
        for _ in range(3):
            assert await client.submit(SEEDANCE, BODY, timeout=LONG) == "req-1"
            await gone.wait()  # and at once the next: our loop has not heard of it yet
            gone.clear()
        assert (server.connections, len(server.received)) == (3, 3)


@pytest.mark.parametrize("unasked", [answer(408, Connection="close"), ACCEPTED])
async def test_what_comes_unasked_on_an_idle_connection_answers_no_submit(unasked: bytes) -> None:
    idle, sent = asyncio.Event(), asyncio.Event()

    async def talks(line: Line) -> None:
        await line.request()
        await line.send(ACCEPTED)
        await idle.wait()
        await line.send(unasked)
        sent.set()
        await line.wait_for_the_other_end()

    second = answers(answer(200, {"request_id": "req-2"}))
    async with wire_server(talks, second) as server, upstream(server.url) as client:
        assert await client.submit(SEEDANCE, BODY, timeout=LONG) == "req-1"
        idle.set()
        await sent.wait()  # and at once the next
        assert await client.submit(SEEDANCE, BODY, timeout=LONG) == "req-2"
        assert (server.connections, len(server.received)) == (2, 2)


async def test_a_connection_closed_under_the_next_submit_leaves_it_unknown() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(ACCEPTED)
        await line.request()
        line.reset()

    async with wire_server(script) as server, upstream(server.url) as client:
        await client.submit(SEEDANCE, BODY, timeout=LONG)
        assert type(await failed(client)) is OutcomeUnknownError
        assert (server.connections, len(server.received)) == (1, 2)


async def test_a_cancelled_submit_passes_the_cancellation_on() -> None:
    has_come = asyncio.Event()

    async def busy(line: Line) -> None:
        await line.request()
        has_come.set()
        await line.wait_for_the_other_end()

    async with wire_server(busy) as server, upstream(server.url) as client:
        submitting = asyncio.ensure_future(client.submit(SEEDANCE, BODY, timeout=LONG))
        await has_come.wait()
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting


@pytest.mark.parametrize("model", ["", "/", "a//b", "a/../b", "a/.", "/a/b", "a/b/", "a/\ud800"])
async def test_a_model_id_that_is_no_path_is_refused_unsent(model: str) -> None:
    async with wire_server(answers(ACCEPTED)) as server, upstream(server.url) as client:
        with pytest.raises(RefusedError):
            await client.submit(model, BODY, timeout=LONG)
        assert server.connections == 0


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("a/b-c_d.e~/V1", "/v1/models/a/b-c_d.e~/V1"),
        ("a/b?c#d", "/v1/models/a/b%3Fc%23d"),
        ("a/%2F/b c", "/v1/models/a/%252F/b%20c"),
        ("a/%2e%2e/b", "/v1/models/a/%252e%252e/b"),
        ("a/é\r\n", "/v1/models/a/%C3%A9%0D%0A"),
        ("a\\b/c", "/v1/models/a%5Cb/c"),
        ("a:b/c", "/v1/models/a%3Ab/c"),
    ],
)
async def test_a_model_id_goes_as_segments_with_the_rest_quoted(model: str, target: str) -> None:
    async with wire_server(answers(ACCEPTED)) as server, upstream(server.url) as client:
        await client.submit(model, BODY, timeout=LONG)
    assert server.received[0].target == target


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        object(),
        {1, 2},
        pytest.param(reduce(lambda inner, _: [inner], range(100_000), []), id="nested too deep"),
    ],
)
async def test_an_input_that_is_no_json_is_refused_unsent(value: Any) -> None:
    async with wire_server(answers(ACCEPTED)) as server, upstream(server.url) as client:
        with pytest.raises(RefusedError):
            await client.submit(SEEDANCE, {"a": value}, timeout=LONG)
        assert server.connections == 0


async def test_a_cancelled_submit_is_unsent_or_unknown_whenever_it_was_cancelled() -> None:
    """After any number of turns of the loop: what is told to be unsent never arrives whole."""
    told: list[type[BaseException]] = []
    async with wire_server(answers(ACCEPTED)) as server, upstream(server.url) as client:
        for turns in range(1, 200):
            before = len(server.received)
            submit = asyncio.create_task(client.submit(SEEDANCE, BODY, timeout=LONG))
            for _ in range(turns):
                await asyncio.sleep(0)  # noqa: TID251 - a turn, no time
            submit.cancel()
            (outcome,) = await asyncio.gather(submit, return_exceptions=True)
            if isinstance(outcome, str):
                break
            for _ in range(20):  # for what may still be on its way
                await asyncio.sleep(0)  # noqa: TID251
            told.append(type(outcome))
            if isinstance(outcome, NotSentError):
                assert len(server.received) == before, turns
    assert told[0] is NotSentError
    assert set(told) == {NotSentError, asyncio.CancelledError}


async def test_a_submit_that_is_cancelled_while_it_connects_is_surely_not_sent() -> None:
    with full_backlog() as url:
        async with upstream(url) as client:
            submit = asyncio.create_task(client.submit(SEEDANCE, BODY, timeout=LONG))
            done, _ = await asyncio.wait({submit}, timeout=0.05)
            assert not done
            submit.cancel()
            (outcome,) = await asyncio.gather(submit, return_exceptions=True)
            assert type(outcome) is NotSentError


class _Holds(httpx.AsyncBaseTransport):
    """One that keeps what it was given, as a writer of its own may."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await asyncio.Event().wait()
        raise AssertionError("nothing is answered")


@pytest.mark.parametrize("is_sent", [True, False])
async def test_no_transport_sends_a_body_behind_our_back(*, is_sent: bool) -> None:
    """Neither a second time, nor once its submit was cancelled before it was sent."""

    async def body_of(request: httpx.Request) -> bytes:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        return b"".join([piece async for piece in request.stream])

    async with httpx.AsyncClient(transport=(transport := _Holds())) as http:
        client = UpstreamClient(
            base_url="https://upstream.invalid",
            token=SecretStr(TOKEN),
            submits=http,
            reads=http,
            metrics=Metrics(),
            clock=SystemClock(),
        )
        submit = asyncio.create_task(client.submit(SEEDANCE, BODY, timeout=LONG))
        await turns()
        [request] = transport.requests
        if is_sent:
            assert b"drifts" in await body_of(request)
        submit.cancel()
        (outcome,) = await asyncio.gather(submit, return_exceptions=True)
        assert type(outcome) is (asyncio.CancelledError if is_sent else NotSentError)
        with pytest.raises(httpx.WriteError):
            await body_of(request)
