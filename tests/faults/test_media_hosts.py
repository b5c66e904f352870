"""Hosts of media that mean harm: each ends quickly, cheaply, and at nobody else's cost."""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any

import pytest

from app.catalogue.media import MediaCheck, MediaRule
from app.core.clock import ManualClock
from app.db.engine import opened_database
from app.media.errors import MediaBusyError
from app.media.inspector import InspectMode, InspectorConfig, MediaInspector
from app.net.guard import guarded
from app.net.reach import Reach
from app.net.remote_file import RemoteFiles
from app.net.resolver import Resolver, SystemResolver
from app.storage.files import FileService
from app.storage.rows import RowStorage
from tests.support.network import Names
from tests.support.pictures import hosting, jpeg, png
from tests.support.wire_server import Line, answer, wire_server

SOON = timedelta(milliseconds=300)
IN_TIME = timedelta(seconds=30)  # also on a machine that is busy with other tests
RULES = (
    MediaRule("width_pixels<", 6000, "Too wide."),
    MediaRule("file_size_mb<", 30, "Too heavy."),
)
GIGABYTES = 10 * 2**30


@asynccontextmanager
async def inspecting(
    resolver: Resolver | None = None, **settings: Any
) -> AsyncIterator[MediaInspector]:
    config = InspectorConfig(**{"deadline": IN_TIME, **settings})
    reach = Reach(private=True)
    names = resolver or Names()
    clock = ManualClock()
    async with (
        opened_database("sqlite:///no-uploads-here.db") as database,
        guarded(deadline=config.deadline, reach=reach, resolver=names) as client,
    ):
        files = FileService(database=database, storage=RowStorage(database), clock=clock)
        yield MediaInspector(remote=RemoteFiles(client), files=files, config=config, clock=clock)


async def codes(inspector: MediaInspector, *urls: str, user: str = "alice") -> list[str]:
    checks = [MediaCheck(f"/input/images/{n}", url, "image", RULES) for n, url in enumerate(urls)]
    return [error.code for error in await inspector.inspect(checks, user_id=user)]


class Flood:
    """Counts what it could send before the other end went away."""

    def __init__(self, head: str, piece: bytes, *, first: bytes = b"") -> None:
        self.sent = 0
        self._head = head
        self._first = first
        self._piece = piece

    async def __call__(self, line: Line) -> None:
        await line.request()
        await line.send(f"HTTP/1.1 200 OK\r\n{self._head}\r\n\r\n".encode() + self._first)
        while True:
            await line.send(self._piece)
            self.sent += len(self._piece)


CHUNK = b"10000\r\n" + bytes(65536) + b"\r\n"
START = png(800, 600)


def chunked(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


@pytest.mark.parametrize(
    ("flood", "expected"),
    [
        (Flood(f"Content-Length: {GIGABYTES}", bytes(65536), first=START), ["file_size_mb"]),
        (Flood("Transfer-Encoding: chunked", CHUNK, first=chunked(START)), ["file_size_mb"]),
        (Flood("Connection: close", bytes(65536), first=START), ["file_size_mb"]),
        (Flood(f"Content-Length: {GIGABYTES}", bytes(65536)), ["media_type"]),
        (
            Flood(f"Content-Length: {GIGABYTES}", b"\xff" * 65536, first=b"\xff\xd8\xff"),
            ["media_unreadable"],
        ),
        (Flood("Transfer-Encoding: chunked", b"1\r\nx\r\n" * 5000), ["media_unreachable"]),
        (
            Flood(
                f"Content-Encoding: gzip\r\nContent-Length: {GIGABYTES}",
                gzip.compress(bytes(10_000_000)),
            ),
            ["media_type"],
        ),
        (Flood(f"Content-Length: {'9' * 400}", bytes(65536), first=START), ["file_size_mb"]),
    ],
)
async def test_floods_are_turned_off_early(flood: Flood, expected: list[str]) -> None:
    async with inspecting() as inspector, wire_server(flood) as server:
        found = await codes(inspector, server.url)
        assert found in (expected, ["media_unreachable"])
        assert server.connections < 3
    # What lies in the buffers of both ends was sent, too.
    assert flood.sent < 12 * 2**20


async def test_a_refusal_for_30_mb_loads_next_to_nothing() -> None:
    sent = 0

    async def honest(line: Line) -> None:
        nonlocal sent
        asked = await line.request()
        assert asked.headers["range"] == "bytes=0-65535"
        body = png(800, 600, size=65536)
        head = f"Content-Range: bytes 0-65535/{31 * 2**20 + 1}\r\nContent-Length: 65536"
        await line.send(f"HTTP/1.1 206 Partial\r\n{head}\r\n\r\n".encode())
        await line.send(body)
        sent += len(body)

    async with inspecting() as inspector, wire_server(honest) as server:
        assert await codes(inspector, server.url) == ["file_size_mb"]
    assert sent <= 65536


async def test_slow_hosts_end_at_the_deadline_whatever_they_are_slow_at() -> None:
    async def drip(line: Line, data: bytes) -> None:
        for byte in data:
            await line.send(bytes([byte]))
            await asyncio.sleep(0.02)  # noqa: TID251 - the server's pace

    async def silent(line: Line) -> None:
        await line.wait_for_the_other_end()

    async def slow_head(line: Line) -> None:
        await line.request()
        await drip(line, answer(200, raw=START))

    async def slow_body(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        await drip(line, START * 1000)

    async def many_heads(line: Line) -> None:
        await line.request()
        while True:
            await line.send(b"HTTP/1.1 102 Processing\r\n\r\n")

    async def slow_redirects(line: Line) -> None:
        await line.request()
        await asyncio.sleep(0.2)  # noqa: TID251 - the server's pace
        await line.send(answer(302, raw=b"", Location="/again"))

    scripts: list[Callable[[Line], Awaitable[None]]] = [
        *(silent, slow_head, slow_body, many_heads, slow_redirects)
    ]
    async with inspecting(deadline=SOON) as inspector:
        for script in scripts:
            async with wire_server(script) as server, asyncio.timeout(60):
                assert await codes(inspector, server.url) == ["media_unreachable"]


async def test_lies_about_ranges_and_lengths_are_seen_through() -> None:
    wrong = b"HTTP/1.1 206 Partial\r\nContent-Length: 5\r\nContent-Range: "

    def saying(data: bytes) -> Callable[[Line], Awaitable[None]]:
        async def script(line: Line) -> None:
            await line.request()
            await line.send(data)

        return script

    async with inspecting() as inspector:
        for data in (
            wrong + b"bytes 7-11/100\r\n\r\nhello",
            wrong + b"none\r\n\r\nhello",
            b"HTTP/1.1 206 Partial\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + START[:30],
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
            b"HTTP/0.9 what\r\n\r\n",
            b"",
        ):
            async with wire_server(saying(data)) as server:
                assert await codes(inspector, server.url) == ["media_unreachable"]
        async with wire_server(saying(answer(302, raw=b"", Location="http://[/"))) as server:
            assert await codes(inspector, server.url) == ["media_url"]
        async with wire_server(saying(wrong + b"bytes 0-4/5\r\n\r\n\x89PNG\r")) as server:
            assert await codes(inspector, server.url) == ["media_type"]


@pytest.mark.parametrize(("total", "requests"), [(len(START), 4), ("*", 5)])
async def test_a_host_that_gives_less_than_was_asked_for_is_asked_for_the_rest(
    total: int | str, requests: int
) -> None:
    async def sparing(line: Line) -> None:
        asked = await line.request()
        start = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0])
        piece = START[start : start + 10]
        told = f"bytes {start}-{start + len(piece) - 1}/{total}"
        await line.send(answer(206, raw=piece, Content_Range=told) if piece else answer(416))

    async with inspecting() as inspector, wire_server(sparing) as server:
        assert await codes(inspector, server.url) == []
        assert server.connections == requests


async def test_redirects_are_followed_three_times() -> None:
    async with inspecting() as inspector, hosting({"/": "/"}) as endless:
        assert await codes(inspector, endless.url) == ["media_redirects"]
        assert endless.connections == 4


async def test_slow_hosts_of_one_caller_hold_up_no_other() -> None:
    full, release = asyncio.Event(), asyncio.Event()

    async def slow(line: Line) -> None:
        await line.request()
        if sluggish.connections == 3:
            full.set()
        await release.wait()
        await line.send(answer(200, raw=START))

    async with (
        inspecting(at_once_each=3, patience=SOON) as inspector,
        wire_server(slow) as sluggish,
        hosting({"/a.png": START}) as quick,
    ):
        slow_urls = [f"{sluggish.url}/{n}" for n in range(6)]
        looks = asyncio.create_task(codes(inspector, *slow_urls[:3], user="mallory"))
        await full.wait()
        more = asyncio.create_task(codes(inspector, *slow_urls[3:], user="mallory"))
        assert await codes(inspector, f"{quick.url}/a.png", user="bob") == []
        with pytest.raises(MediaBusyError):
            await more
        assert sluggish.connections == 3
        release.set()
        assert await looks == []
        assert await codes(inspector, f"{quick.url}/a.png", user="mallory") == []


@pytest.mark.parametrize("mode", ["require", "best_effort"])
async def test_all_callers_together_have_so_many_turns(mode: InspectMode) -> None:
    full, release = asyncio.Event(), asyncio.Event()

    async def slow(line: Line) -> None:
        await line.request()
        if sluggish.connections == 2:
            full.set()
        await release.wait()
        await line.send(answer(200, raw=START))

    async with (
        inspecting(mode=mode, at_once=2, patience=SOON) as inspector,
        wire_server(slow) as sluggish,
        hosting({"/a.png": START}) as quick,
    ):
        waiting = asyncio.gather(
            *(codes(inspector, f"{sluggish.url}/{user}", user=user) for user in ("bob", "carol"))
        )
        await full.wait()
        with pytest.raises(MediaBusyError) if mode == "require" else nullcontext():
            assert await codes(inspector, f"{quick.url}/a.png") == []
        assert quick.connections == 0
        release.set()
        assert await waiting == [[], []]
        assert await codes(inspector, f"{quick.url}/a.png") == []
        assert quick.connections == 1


@pytest.mark.timeout(20)
async def test_who_was_refused_a_turn_keeps_none_for_the_other_files() -> None:
    release = asyncio.Event()

    async def slow(line: Line) -> None:
        await line.request()
        await release.wait()

    async with (
        inspecting(at_once_each=1, patience=SOON) as inspector,
        wire_server(slow) as sluggish,
        hosting({"/a.png": START}) as quick,
    ):
        with pytest.raises(MediaBusyError):
            await codes(inspector, f"{sluggish.url}/1", f"{sluggish.url}/2")
        assert await codes(inspector, f"{quick.url}/a.png") == []
        release.set()


@pytest.mark.timeout(20)
async def test_a_line_that_is_long_is_joined_by_no_more() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(line: Line) -> None:
        await line.request()
        begun.set()
        await release.wait()
        await line.send(answer(200, raw=START))

    patient = timedelta(seconds=60)
    limits = {"at_once_each": 1, "longest_line": 3, "deadline": patient, "patience": patient}
    async with inspecting(**limits) as inspector, wire_server(slow) as sluggish:
        urls = [f"{sluggish.url}/{n}" for n in range(4)]
        first = asyncio.create_task(codes(inspector, *urls[:3], user="mallory"))
        await begun.wait()
        with pytest.raises(MediaBusyError):
            await codes(inspector, urls[3], user="mallory")
        release.set()
        assert await first == []
        assert await codes(inspector, urls[3], user="mallory") == []


async def test_names_of_one_caller_that_hang_hold_up_no_other() -> None:
    """Whose servers say nothing is asked again and again by the system, and cannot be stopped."""
    release = threading.Event()

    def look_up(host: str) -> Sequence[str]:
        if host != "good.example":
            release.wait()
        return ["127.0.0.1"]

    resolver = SystemResolver(look_up=look_up)
    async with (
        inspecting(resolver, deadline=SOON) as hasty,
        inspecting(resolver) as inspector,
        hosting({"/a.png": png(800, 600)}) as server,
    ):
        hanging = [f"http://{n}.example/a.png" for n in range(100)]
        assert await codes(hasty, *hanging, user="mallory") == ["media_unreachable"] * 100
        good = server.url.replace("127.0.0.1", "good.example")
        assert await codes(inspector, f"{good}/a.png") == []
        release.set()


async def test_who_waited_for_a_turn_knows_what_was_found_meanwhile() -> None:
    async with (
        inspecting(at_once_each=2) as inspector,
        hosting({"/a.jpg": jpeg(800, 600)}) as server,
    ):
        url = f"{server.url}/a.jpg"
        assert await asyncio.gather(*(codes(inspector, url) for _ in range(50))) == [[]] * 50
        assert server.connections <= 2


async def test_so_much_is_remembered_and_no_more() -> None:
    files: dict[str, bytes | str | int] = {"/a.png": START, "/b.png": START}
    async with inspecting(most_kept=1) as inspector, hosting(files) as server:
        for name in ("a", "b", "b", "a"):
            assert await codes(inspector, f"{server.url}/{name}.png") == []
        assert server.connections == 3


async def test_an_address_that_the_client_cannot_read_is_unreachable() -> None:
    async with inspecting() as inspector:
        assert await codes(inspector, "https://\u212a_a.example.com/a.png") == ["media_unreachable"]
