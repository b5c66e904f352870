"""Server-sent events on one connection: nothing is queued, news is read when it is sent.

So a reader that is slow, or never reads, costs no more than any other connection: once the
server's buffer is full we are paused, and only remember that there is news.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError
from app.events.watch import Ending, Watch

_HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
_OPENING = b": the stream is open\n\n"
_RECONNECTING = frozenset({Ending.CLOSING, Ending.AGE})
_SOONEST_MS, _LATEST_MS = 500, 5000  # spread, so that a thousand clients do not reconnect at once


@dataclass(frozen=True, slots=True)
class News:
    """What there is to send; `is_last` means that the stream ends after it."""

    events: Sequence[bytes]
    is_last: bool = False
    has_more: bool = False


class EventSource(Protocol):
    async def read(self) -> News:
        """Return what happened since the last call."""
        ...

    def heartbeat(self) -> bytes: ...


class EventStream(Response):
    """Sends what `source` has whenever `watch` wakes it; closes its `resources` at the end."""

    media_type = "text/event-stream"

    def __init__(
        self,
        first: News,
        *,
        source: EventSource,
        watch: Watch,
        resources: ExitStack,
        clock: Clock,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._first = first
        self._source = source
        self._watch = watch
        self._resources = resources
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        listener = asyncio.ensure_future(end_on_disconnect(self._watch, receive))
        try:
            headers = self.raw_headers
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send(send, _OPENING + b"".join(self._first.events))
            if not self._first.is_last:
                await self._follow(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            listener.cancel()
            self._resources.close()

    async def _follow(self, send: Send) -> None:
        watch = self._watch
        while True:
            await watch.wait()
            has_news, is_quiet = watch.heed()
            if has_news and not await self._send_news(send):
                return
            if watch.ending in _RECONNECTING:
                retry = random.randint(_SOONEST_MS, _LATEST_MS)  # noqa: S311 - no secret
                await self._send(send, b": reconnect, please\nretry: %d\n\n" % retry)
            if watch.ending:
                return
            if is_quiet:
                await self._send(send, self._source.heartbeat())

    async def _send_news(self, send: Send) -> bool:
        """Send what is new; False when that was the last."""
        try:
            found = await self._source.read()
        except DatabaseUnavailableError:
            self._watch.look_again()
            return True
        if found.has_more:
            self._watch.tell()
        if found.events:
            await self._send(send, b"".join(found.events))
        return not found.is_last

    async def _send(self, send: Send, text: bytes) -> None:
        await send({"type": "http.response.body", "body": text, "more_body": True})
        self._watch.sent = self._clock.monotonic()


async def end_on_disconnect(watch: Watch, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    watch.end(Ending.LEFT)
