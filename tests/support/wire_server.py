"""A raw TCP server that plays a script per connection: it fails as no HTTP server can."""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Line:
    """One accepted connection, as a script drives it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: list[Received]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._log = log

    async def head(self) -> Received:
        """Read only a request's head, without counting it."""
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Received(method, target, headers, b"")

    async def request(self) -> Received:
        """Read and count a whole request."""
        head = await self.head()
        body = await self._reader.readexactly(int(head.headers.get("content-length", "0")))
        received = Received(head.method, head.target, head.headers, body)
        self._log.append(received)
        return received

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def wait_for_the_other_end(self) -> None:
        await self._reader.read()

    def hang_up(self) -> None:
        """Send the end of the stream at once; closing it would wait for a turn of the loop."""
        self._writer.get_extra_info("socket").shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


@dataclass
class WireServer:
    """`received` holds every request that came whole, over all connections."""

    port: int = 0
    connections: int = 0
    received: list[Received] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def wire_server(*scripts: Script) -> AsyncIterator[WireServer]:
    """Serve each connection by the next script, the last one again and again."""
    server = WireServer(scripts=list(scripts))
    lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        lines[task] = writer
        script = server.scripts[min(server.connections, len(server.scripts) - 1)]
        server.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client left
            await script(Line(reader, writer, server.received))
        writer.close()
        del lines[task]

    listening = await asyncio.start_server(play, "127.0.0.1", 0, limit=2**20)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in lines.values():
            writer.transport.abort()
        await asyncio.gather(*lines)


GZIP_BOMB = gzip.compress(b" " * 10**8, compresslevel=1)
"""More than the client accepts of an answer, in half a megabyte."""


def answer(
    status: int = 200, body: Any = None, *, raw: bytes | None = None, **headers: str
) -> bytes:
    """Write a whole answer; `raw` replaces the JSON body."""
    content = json.dumps(body).encode() if raw is None else raw
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def answers(*data: bytes) -> Script:
    """Answer the requests of one connection in turn, then hold it open."""

    async def script(line: Line) -> None:
        for each in data:
            await line.request()
            await line.send(each)
        await line.wait_for_the_other_end()

    return script


@contextmanager
def full_backlog() -> Iterator[str]:
    """Listen and accept nobody, with the queue full: a connect gets no answer at all."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(address)
        try:
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            for each in waiting:
                each.close()


@contextmanager
def refused_port() -> Iterator[str]:
    """Hold a port without listening on it, so that nobody else can answer there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
