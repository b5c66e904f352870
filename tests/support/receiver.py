"""A receiver of webhooks on a real socket, which answers as a test wants it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from tests.support.wire_server import Line, Received, WireServer, answer, wire_server

Reply = Callable[[Line], Awaitable[None]]


@dataclass
class Message:
    """One attempt as it arrived."""

    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def payload(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    def is_signed_with(self, secret: str) -> bool:
        """Compare with what the reference library signs: it verifies only by the current time."""
        at = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        expected = Webhook(secret).sign(self.id, at, self.body)
        return expected in self.headers["webhook-signature"].split(" ")

    def verify(self, secret: str) -> Any:
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """`replies` are used in turn, the last one again and again."""

    server: WireServer
    path: str = "/hook"
    replies: list[Reply] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.server.url}{self.path}"

    @property
    def messages(self) -> list[Message]:
        return [_message(received) for received in self.server.received]

    @property
    def last(self) -> Message:
        return self.messages[-1]

    def answers(self, *replies: Reply) -> None:
        self.replies[:] = replies


@asynccontextmanager
async def receiving(*replies: Reply) -> AsyncIterator[Receiver]:
    """Listen; without `replies` everything is answered 204."""
    prepared = list(replies) or [status(204)]

    async def serve(line: Line) -> None:
        while True:
            await line.request()
            reply = prepared.pop(0) if len(prepared) > 1 else prepared[0]
            await reply(line)

    async with wire_server(serve) as server:
        yield Receiver(server, replies=prepared)


def status(code: int, body: bytes = b"", **headers: str) -> Reply:
    async def reply(line: Line) -> None:
        await line.send(answer(code, raw=body, **headers))

    return reply


def held(until: asyncio.Event) -> Reply:
    """Answer only when the test says so."""

    async def reply(line: Line) -> None:
        await until.wait()
        await line.send(answer(204, raw=b""))

    return reply


async def endless(line: Line) -> None:
    """Begin a body that never ends."""
    await line.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        await line.send(b"x" * 65536)


async def hang_up(line: Line) -> None:
    line.reset()


async def break_off(line: Line) -> None:
    """Send less of a body than was announced."""
    await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nwell")
    line.hang_up()


def _message(received: Received) -> Message:
    return Message(received.headers, received.body.decode())
