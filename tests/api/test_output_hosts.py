"""What a file's host leaves out or gets wrong, and what readers of an output get all the same."""

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.core.clock import ManualClock
from app.upstream.errors import RefusedError
from app.upstream.outputs import OutputClient
from tests.support.answers import problem
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.rows import change
from tests.support.wire_server import Line, Received, WireServer, answer, wire_server

pytestmark = pytest.mark.either_database

FILM = bytes(range(256)) * 4000
PLAIN = answer(raw=FILM, Content_Type="video/mp4")
NOBODYS = "https://127.0.0.1/0.mp4"
SIGNED = "/films%2F7/%7E0.mp4?Credential=AK%2F7&Signature=a%2bb%3D"

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
                output=f'{{"video": "{host.url}{SIGNED}"}}',
            )
            there = Sandbox(url=host.url, http=gateway.sandbox.http)
            async with running(database_url, sandbox=there, clock=clock) as asking:
                asking.http.headers["Authorization"] = gateway.http.headers["Authorization"]
                yield Relay(asking.http, f"/v1/jobs/{job['id']}/outputs/0", host)

    return relay


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class _Anywhere(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, request=request)


@pytest.mark.parametrize(
    ("url", "is_trusted"),
    [
        ("https://a.runcomfy.net/0.mp4", True),
        ("https://A.B.RunComfy.net:443/0.mp4", True),
        ("https://files.example/0.mp4", True),
        ("http://127.0.0.1:9/0.mp4", True),
        ("http://a.runcomfy.net/0.mp4", False),
        ("http://a.runcomfy.net:443/0.mp4", False),
        ("https://a.runcomfy.net:8443/0.mp4", False),
        ("https://runcomfy.net.example/.runcomfy.net", False),
        ("https://notruncomfy.net/0.mp4", False),
        ("https://a.files.example/0.mp4", False),
        ("https://127.0.0.1:9/0.mp4", False),
        ("http://127.0.0.1:10/0.mp4", False),
    ],
)
async def test_a_file_is_fetched_from_the_hosts_that_are_named_alone(
    url: str, *, is_trusted: bool
) -> None:
    named = ("*.runcomfy.net", "files.example")
    async with httpx.AsyncClient(transport=_Anywhere()) as http:
        outputs = OutputClient(client=http, hosts=named, upstream="http://127.0.0.1:9")
        with nullcontext() if is_trusted else pytest.raises(RefusedError):
            async with outputs.open(url, headers={}) as response:
                assert response.status_code == 200


async def test_the_operators_hosts_are_asked_for_outputs_and_for_their_copies(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    settings = {"output_hosts": "127.0.0.1", "storage_url": f"file://{tmp_path}/kept"}
    async with running(database_url, sandbox=sandbox, clock=clock, **settings) as gateway:
        job = await gateway.follow(await gateway.submit("sandbox:instant"))
        change(database_url, "UPDATE jobs SET output = :output", output=f'{{"video": "{NOBODYS}"}}')
        refused = await gateway.http.get(f"/v1/jobs/{job['id']}/outputs/0")
        assert gateway.workers.archiver is not None
        await gateway.workers.archiver.loop.run_once()
        (copy,) = (await gateway.admin.get("/v1/admin/outputs")).json()["data"]
    for told in (problem(refused)["detail"], copy["reason"]):
        assert told.startswith("The output cannot be fetched (")


async def test_a_host_is_asked_by_the_very_letters_that_it_signed(relaying: Relaying) -> None:
    async with relaying(lambda _: PLAIN) as relay:
        assert (await relay.get()).content == FILM
        assert [asked.target for asked in relay.host.received] == [SIGNED]


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}])
@pytest.mark.parametrize(
    "sent",
    [
        answer(raw=b"<!doctype html><title>Just a moment...</title>", Content_Type="text/html"),
        b"no HTTP\r\n\r\n",
    ],
    ids=["a page", "no HTTP"],
)
async def test_what_else_comes_in_the_place_of_the_file_is_no_output(
    relaying: Relaying, sent: bytes, headers: dict[str, str]
) -> None:
    async with relaying(lambda _: sent) as relay:
        refused = await relay.get(**headers)
        assert (refused.status_code, problem(refused)["code"]) == (503, "output_unavailable")
        assert refused.headers["Retry-After"] == "5"
        assert (await relay.head(**headers)).status_code == 503


async def test_a_film_that_its_host_calls_a_page_is_one_all_the_same(relaying: Relaying) -> None:
    film = b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + FILM
    called_a_page = answer(raw=film, Content_Type="text/html; charset=utf-8")
    async with relaying(lambda _: called_a_page) as relay:
        assert (await relay.get()).content == film
        assert (await relay.get(Range="bytes=5-9")).content == film[5:10]


@pytest.mark.parametrize("value", ['"\u65e5"', '"a\x01b"'])
async def test_what_no_header_may_hold_is_left_out(relaying: Relaying, value: str) -> None:
    names = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Range", "Content-Encoding")
    head = "".join(f"{name}: {value}\r\n" for name in names)

    def answered(asked: Received) -> bytes:
        status = "416 Too far" if "range" in asked.headers else "200 OK"
        return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(FILM)}\r\n\r\n".encode() + FILM

    async with relaying(answered) as relay:
        whole, part = await relay.get(), await relay.get(Range="bytes=0-9")
    assert (whole.status_code, whole.content) == (200, FILM)
    assert [name for name in names if name in whole.headers] == ["ETag"]  # ours
    assert (part.status_code, part.headers["Content-Range"]) == (416, "bytes */*")


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


@pytest.mark.parametrize("tag", [None, '"a"'])
async def test_a_host_may_tell_the_length_of_what_it_need_not_send(
    relaying: Relaying, tag: str | None
) -> None:
    tagged = "" if tag is None else f"ETag: {tag}\r\n"
    lines = f"HTTP/1.1 304 Not Modified\r\n{tagged}Content-Length: 5000\r\n\r\n".encode()
    async with relaying(lambda _: lines) as relay:
        same = await relay.get(If_None_Match='"a"')
    assert (same.status_code, same.content, same.headers.get("ETag")) == (304, b"", tag)
    assert "Content-Length" not in same.headers  # the server would wait for so many bytes
    assert same.headers["Content-Type"] == "video/mp4"


@pytest.mark.parametrize("status", [403, 404, 410])  # 403: a signed link has expired
async def test_what_a_host_no_longer_gives_is_gone(relaying: Relaying, status: int) -> None:
    async with relaying(lambda _: answer(status)) as relay:
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


@pytest.mark.parametrize("tag", [None, '"of-the-host"'])
async def test_a_host_without_ranges_gives_ranges_all_the_same(
    relaying: Relaying, tag: str | None
) -> None:
    tagged = {} if tag is None else {"ETag": tag}
    plain = answer(raw=FILM, Content_Type="video/mp4", **tagged)
    async with relaying(lambda _: plain) as relay:
        whole = await relay.get()
        etag = whole.headers["ETag"]
        assert (whole.content, whole.headers["Accept-Ranges"]) == (FILM, "bytes")
        assert tag in {None, etag}

        for asked, start, stop in (
            ("0-9", 0, 10),
            ("1000-999999", 1000, 1_000_000),
            ("1023999-", 1_023_999, 1_024_000),
            ("-300000", 724_000, 1_024_000),
            ("0-" + "9" * 20, 0, 1_024_000),
        ):
            part = await relay.get(Range=f"bytes={asked}", If_Range=etag)
            assert (part.status_code, part.content) == (206, FILM[start:stop]), asked
            assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/1024000"
            assert part.headers["Content-Length"] == str(stop - start)
            assert part.headers["ETag"] == etag
        for head in (await relay.head(Range="bytes=0-9"), await relay.head(Range="bytes=1024000-")):
            assert (head.status_code, _lasting(head)) == (200, _lasting(whole)), "of GET alone"

        beyond = await relay.get(Range="bytes=1024000-")
        assert problem(beyond)["code"] == "range_not_satisfiable"
        assert beyond.headers["Content-Range"] == "bytes */1024000"
        for ignored in (
            await relay.get(Range="bytes=0-1,5-6"),
            await relay.get(Range="bytes=0-1", If_Range='"another"'),
            await relay.get(Range="bytes=0-1", If_Range="Sun, 22 Nov 2026 10:00:00 GMT"),
        ):
            assert (ignored.status_code, ignored.content) == (200, FILM)
        same = await relay.get(Range="bytes=0-1", If_None_Match=etag)
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    assert len(relay.host.received) == 13


async def test_of_a_host_without_ranges_no_more_is_read_than_is_wanted(
    relaying: Relaying,
) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\na film"
    async with relaying(lambda _: start) as relay:
        part = await relay.get(Range="bytes=2-5")
    assert (part.content, part.headers["Content-Range"]) == (b"film", "bytes 2-5/5000000000")


async def test_a_host_with_ranges_and_no_tag_gets_one_for_whole_and_part(
    relaying: Relaying,
) -> None:
    part = answer(206, raw=FILM[:4], Content_Range=f"bytes 0-3/{len(FILM)}")

    async with relaying(lambda asked: part if "range" in asked.headers else PLAIN) as relay:
        whole, first = await relay.get(), await relay.get(Range="bytes=0-3")
        etag = first.headers["ETag"]
        known = await relay.get(Range="bytes=0-3", If_None_Match=etag)
    assert (first.status_code, first.content, etag) == (206, FILM[:4], whole.headers["ETag"])
    assert (known.status_code, "Content-Range" in known.headers) == (304, False)


async def test_what_has_another_length_has_another_tag(relaying: Relaying) -> None:
    sent = iter((PLAIN, answer(raw=FILM[1:], Content_Type="video/mp4")))
    async with relaying(lambda _: next(sent)) as relay:
        tags = [(await relay.get()).headers["ETag"] for _ in range(2)]
    assert tags[0] != tags[1]


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfilm\r\n0\r\n\r\n",
        answer(raw=gzip.compress(b"film"), Content_Encoding="gzip"),
        answer(raw=b"film", ETag='W/"weak"'),
    ],
    ids=["chunked", "packed", "weakly tagged"],
)
async def test_what_may_not_come_twice_alike_is_never_put_together(
    relaying: Relaying, sent: bytes
) -> None:
    async with relaying(lambda _: sent) as relay:
        etag = (await relay.get()).headers["ETag"]
        whole = await relay.get(Range="bytes=0-1", If_Range=etag)
        same = await relay.get(If_None_Match=etag)
    assert (whole.status_code, whole.content) == (200, b"film")
    assert (etag[:2], same.status_code) == ("W/", 304)


def _lasting(answered: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answered.headers.items() if name != "x-request-id"}
