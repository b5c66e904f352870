"""The transport below the upstream client: it tells the truth, keeps nothing and closes well."""

import asyncio
import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey
from pydantic import SecretStr
from yarl import URL

from app.core.clock import SystemClock
from app.core.metrics import Metrics
from app.net.clients import trusted
from app.net.transport import translate_errors
from app.upstream.client import UpstreamClient
from app.upstream.errors import NotSentError, OutcomeUnknownError, TryLaterError
from tests.support.gateway import SEEDANCE
from tests.support.upstream import LONG
from tests.support.wire_server import Line, answer, answers, wire_server

NOT_SENT_BY_HTTPX = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
NOT_SENT_BY_AIOHTTP = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


def client() -> httpx.AsyncClient:
    return trusted(timeout=LONG, connections=2, keepalive=timedelta(seconds=2))


def below(base: type[BaseException]) -> Iterator[type[BaseException]]:
    for kind in base.__subclasses__():
        yield kind
        yield from below(kind)


def is_public(kind: type[BaseException], module: str) -> bool:
    return kind.__module__.split(".")[0] == module and not kind.__name__.startswith("_")


def httpx_errors() -> list[type[BaseException]]:
    everything = {*below(Exception)}
    return sorted((kind for kind in everything if is_public(kind, "httpx")), key=str)


def aiohttp_errors() -> list[type[BaseException]]:
    everything = {*below(aiohttp.ClientError), aiohttp.ClientError, TimeoutError, OSError}
    return sorted((kind for kind in everything if issubclass(kind, Exception)), key=str)


def made(kind: type[BaseException]) -> BaseException:
    """Make an exception without caring for what its constructor wants."""
    error = kind.__new__(kind)
    error.args = ("oh",)
    for name, value in {
        "_conn_key": ConnectionKey(
            host="x",
            port=80,
            is_ssl=False,
            ssl=True,
            proxy=None,
            proxy_auth=None,
            proxy_headers_hash=None,
        ),
        "_os_error": OSError(1, "oh"),
        "_certificate_error": OSError(1, "oh"),
        "_url": URL("http://x"),
        "_description": None,
        "request_info": aiohttp.RequestInfo(URL("http://x"), "POST", None, URL("http://x")),  # type: ignore[arg-type]
        "status": 400,
        "message": "oh",
        "_path": "/x",
    }.items():
        error.__dict__[name] = value
    return error


class Failing(httpx.AsyncBaseTransport):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise self.error


@pytest.mark.parametrize("kind", [*httpx_errors(), *aiohttp_errors(), ValueError, RuntimeError])
async def test_no_error_of_the_transport_escapes_unsorted(kind: type[BaseException]) -> None:
    async with httpx.AsyncClient(transport=Failing(made(kind)), trust_env=False) as failing:
        upstream = UpstreamClient(
            base_url="http://x",
            token=SecretStr("t"),
            submits=failing,
            reads=failing,
            metrics=Metrics(),
            clock=SystemClock(),
        )
        expected = NotSentError if issubclass(kind, NOT_SENT_BY_HTTPX) else OutcomeUnknownError
        with pytest.raises(expected):
            await upstream.submit(SEEDANCE, {}, timeout=LONG)
        with pytest.raises(TryLaterError):
            await upstream.status("req-1", timeout=LONG)


@pytest.mark.parametrize("kind", aiohttp_errors())
async def test_only_aiohttps_connect_errors_become_httpxs(kind: type[BaseException]) -> None:
    async def fail(_: aiohttp.ClientRequest) -> aiohttp.ClientResponse:
        raise made(kind)

    request: Any = aiohttp.ClientRequest("GET", URL("http://x"))
    with pytest.raises(httpx.TransportError) as caught:
        await translate_errors(request, fail)
    assert isinstance(caught.value, NOT_SENT_BY_HTTPX) == issubclass(kind, NOT_SENT_BY_AIOHTTP)


async def test_an_address_that_is_none_of_ours_is_surely_not_asked() -> None:
    async with client() as http:
        with pytest.raises(httpx.UnsupportedProtocol):
            await http.get("ftp://x/")


def test_the_walk_sees_the_errors_that_matter() -> None:
    assert {httpx.ReadError, httpx.InvalidURL, httpx.StreamConsumed} <= {*httpx_errors()}
    assert {aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError} <= {*aiohttp_errors()}


async def test_no_cookie_is_kept() -> None:
    data = answer(200, {}, Set_Cookie="session=1; Path=/")
    async with wire_server(answers(data, data)) as server, client() as http:
        for _ in range(2):  # by name: aiohttp never keeps the cookies of a bare address
            await http.get(server.url.replace("127.0.0.1", "localhost"))
    assert [each.headers.get("cookie") for each in server.received] == [None, None]
    assert not http.cookies


async def test_the_environment_has_no_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / ".netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with wire_server(answers(answer(200))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with wire_server(answers(answer(200))) as server, client() as http:
            await http.get(server.url)
        assert proxy.connections == 0
    assert "authorization" not in server.received[0].headers


async def test_a_connection_idle_for_too_long_is_not_used_again() -> None:
    data = answer(200)
    http = trusted(timeout=LONG, connections=2, keepalive=timedelta())
    async with wire_server(answers(data, data)) as server, http:
        for _ in range(2):
            await http.get(server.url)
        assert (server.connections, len(server.received)) == (2, 2)


@pytest.mark.timeout(20)
async def test_a_body_that_stops_being_http_breaks_off() -> None:
    has_begun = asyncio.Event()

    async def break_off(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await has_begun.wait()
        await line.send(b"no size\r\n")
        await line.wait_for_the_other_end()

    async with (
        wire_server(break_off) as server,
        client() as http,
        http.stream("GET", server.url) as response,
    ):
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"hello"
        has_begun.set()
        with pytest.raises(httpx.ReadError):
            await anext(pieces)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"HTTP/1.1 100 Go on\r\n\r\n" * 10_000, id="interim responses"),
        pytest.param(
            b"HTTP/1.1 103 Hints\r\n" + b"Link: %s\r\n" % (b"x" * 10_000) * 60 + b"\r\n",
            id="a long interim response",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + b"X: %s\r\n" % (b"x" * 20_000) * 30, id="a long head"
        ),
    ],
)
async def test_who_sends_heads_without_end_is_hung_up_on(flood: bytes) -> None:
    rest = answer(200).removeprefix(b"HTTP/1.1 200 Whatever\r\n" if b" 200 " in flood else b"")
    async with wire_server(answers(flood + rest)) as server, client() as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(server.url)


async def test_some_interim_responses_are_read_over() -> None:
    hint = b"HTTP/1.1 103 Hints\r\nLink: %s\r\n\r\n" % (b"x" * 1000)
    async with wire_server(answers(hint * 50 + answer(200, {}))) as server, client() as http:
        assert (await http.get(server.url)).json() == {}


async def test_no_kept_connection_is_too_old_for_another_response() -> None:
    """All their heads together are as long as one without end."""
    long = answer(200, {}, X="x" * 90_000)
    async with (
        wire_server(answers(*[long] * 8)) as server,
        trusted(timeout=LONG, connections=2, keepalive=timedelta(minutes=5)) as http,
    ):
        for _ in range(8):
            assert (await http.get(server.url)).json() == {}
    assert server.connections == 1


def test_a_client_may_be_made_outside_a_loop() -> None:
    assert not client().is_closed


async def test_closing_leaves_no_socket_behind() -> None:
    async with wire_server(answers(answer(200))) as server:
        http = client()
        await http.get(server.url)
        await http.aclose()
        del http
        gc.collect()  # an unclosed session or socket would warn, and a warning fails the test
