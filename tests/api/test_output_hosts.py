"""What a file's host leaves out or gets wrong, and what readers of an output get all the same."""

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from app.core.clock import ManualClock
from tests.support.answers import problem
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.rows import change
from tests.support.wire_server import Line, Received, WireServer, answer, wire_server

pytestmark = pytest.mark.either_database

FILM = bytes(range(256)) * 4000
PLAIN = answer(raw=FILM, Content_Type="video/mp4")

Answers = Callable[[Received], bytes]


@dataclass(frozen=True, slots=True)
class Relay:
    """A job's only output, as it comes through the gateway from `host`."""

    http: httpx.AsyncClient
    path: str
    host: WireServer

    async def get(self, **headers: str) -> httpx.Response:
        return await self.http.get(self.path, headers=_named(headers))

    async def head(self, **headers: str) -> httpx.Response:
        return await self.http.head(self.path, headers=_named(headers))


Relaying = Callable[[Answers], AbstractAsyncContextManager[Relay]]


@pytest.fixture
def relaying(gateway: Gateway, database_url: str, clock: ManualClock) -> Relaying:
    """Let a job's output be on a host that answers as it is told."""

    @asynccontextmanager
    async def relay(answered: Answers) -> AsyncIterator[Relay]:
        async def serve(line: Line) -> None:
            while True:
                await line.send(answered(await line.request()))

        job = await gateway.follow(await gateway.submit("sandbox:instant"))
        async with wire_server(serve) as host:
            change(
                database_url,
                "UPDATE jobs SET output = :output WHERE id = :id",
                id=job["id"],
                output=f'{{"video": "{host.url}/0.mp4"}}',
            )
            there = Sandbox(url=host.url, http=gateway.sandbox.http)
            async with running(database_url, sandbox=there, clock=clock) as asking:
                asking.http.headers["Authorization"] = gateway.http.headers["Authorization"]
                yield Relay(asking.http, f"/v1/jobs/{job['id']}/outputs/0", host)

    return relay


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize("refusal", [403, 405])
async def test_the_head_is_told_though_the_host_answers_get_alone(
    relaying: Relaying, refusal: int
) -> None:
    def answered(asked: Received) -> bytes:
        return answer(refusal) if asked.method == "HEAD" else PLAIN

    async with relaying(answered) as relay:
        whole, head = await relay.get(), await relay.head()
    assert (head.status_code, head.content) == (200, b"")
    assert whole.content == FILM
    assert _lasting(head) == _lasting(whole)
    assert head.headers["Content-Length"] == str(len(FILM))
    assert len(relay.host.received) == 2


async def test_a_head_waits_for_no_body(relaying: Relaying) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\nContent-Type: video/mp4\r\n\r\nfil"
    async with relaying(lambda _: start) as relay:
        head = await relay.head()
    assert (head.status_code, head.headers["Content-Length"]) == (200, "5000000000")


async def test_a_head_of_a_file_without_a_length_tells_none(relaying: Relaying) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfilm\r\n0\r\n\r\n"
    async with relaying(lambda _: chunked) as relay:
        whole, head = await relay.get(), await relay.head()
    assert (whole.content, head.status_code) == (b"film", 200)
    assert "Content-Length" not in head.headers


async def test_a_host_that_has_nothing_is_gone_by_head_too(relaying: Relaying) -> None:
    async with relaying(lambda _: answer(404)) as relay:
        assert (await relay.head()).status_code == 410
        assert problem(await relay.get())["code"] == "output_gone"


@pytest.mark.parametrize("status", [206, 416])
async def test_a_part_that_nobody_asked_for_is_not_taken_for_the_file(
    relaying: Relaying, status: int
) -> None:
    part = answer(status, raw=b"film", Content_Range=f"bytes 0-3/{len(FILM)}")
    async with relaying(lambda _: part) as relay:
        for refused in (await relay.get(), await relay.get(Range="bytes=0-1,5-6")):
            assert problem(refused) == {
                "status": 503,
                "code": "output_unavailable",
                "detail": f"The output's host answered {status}.",
            }
            assert refused.headers["Retry-After"] == "5"
    assert ["range" in asked.headers for asked in relay.host.received] == [False, False]


async def test_a_file_that_its_host_packs_is_said_to_be_packed(relaying: Relaying) -> None:
    packed = answer(raw=gzip.compress(FILM), Content_Type="video/mp4", Content_Encoding="gzip")
    async with relaying(lambda _: packed) as relay:
        whole, head = await relay.get(), await relay.head()
    assert (whole.status_code, whole.content) == (200, FILM)  # the client unpacks it
    assert whole.headers["Content-Encoding"] == "gzip"
    assert _lasting(head) == _lasting(whole)
    assert relay.host.received[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("none", ["identity", "aws-chunked"])
async def test_a_file_that_only_seems_to_be_packed_is_sent_as_it_is(
    relaying: Relaying, none: str
) -> None:
    plain = answer(raw=FILM, Content_Type="video/mp4", Content_Encoding=none)
    async with relaying(lambda _: plain) as relay:
        whole = await relay.get()
    assert whole.content == FILM
    assert "Content-Encoding" not in whole.headers


def _lasting(answered: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answered.headers.items() if name != "x-request-id"}
