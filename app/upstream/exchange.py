"""One exchange with RunComfy: sent once, limited in time, its answer limited in size."""
# ruff: noqa: ASYNC109 - the caller chooses the timeout, which `exchange` enforces

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from datetime import timedelta

import httpx

from app.upstream.classify import Answer, retry_after
from app.upstream.errors import UpstreamError
from app.upstream.messages import clean
from app.upstream.wire import LONGEST_ANSWER, decode

_LARGE_ANSWER = 2**20
_PIECE = 2**16
_LAST_LOOK_S = 0.1
_NEVER_CONNECTED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)


async def exchange(
    client: httpx.AsyncClient,
    request: httpx.Request,
    *,
    timeout: timedelta,
    unsent: type[UpstreamError],
    lost: type[UpstreamError],
    large: AbstractAsyncContextManager[None],
) -> Answer:
    """Send once, reading a large answer inside `large`; raise only `unsent` or `lost`."""
    if client.is_closed:
        raise unsent("The gateway is shutting down.")
    try:
        async with asyncio.timeout(None) as limit:
            loop = asyncio.get_running_loop()
            over = loop.call_later(timeout.total_seconds(), _look_once_more, limit)
            try:
                return await _read(await _sent(client, request, unsent=unsent), large=large)
            finally:
                over.cancel()
    except UpstreamError:
        raise
    except Exception as exc:  # whatever broke, the answer is lost
        raise lost(f"RunComfy's answer was lost ({type(exc).__name__}).", outage=True) from exc


class OneTimeBody(httpx.AsyncByteStream):
    """A body sent piece by piece, so that a large one blocks nothing, and never sent twice.

    Without its body a request is incomplete: if the body was not read, no request was sent.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._is_withdrawn = False
        self.has_begun = False

    @property
    def length(self) -> int:
        return len(self._content)

    def withdraw(self) -> None:
        # The connection may be written by another task, which was not cancelled.
        self._is_withdrawn = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_withdrawn or self.has_begun:
            raise httpx.WriteError("withdrawn, or sent before")
        self.has_begun = True
        for start in range(0, len(self._content), _PIECE):
            yield self._content[start : start + _PIECE]


async def _sent(
    client: httpx.AsyncClient, request: httpx.Request, *, unsent: type[UpstreamError]
) -> httpx.Response:
    try:
        return await client.send(request, stream=True)
    except _NEVER_CONNECTED as exc:
        raise unsent(clean(f"RunComfy cannot be reached: {exc}"), outage=True) from exc


def _look_once_more(limit: asyncio.Timeout) -> None:
    """End a call whose time is up, but only after reading all that has already arrived.

    An event loop looks at its clock before its sockets: a process that was frozen would find the
    time up, and throw away the waiting answer with the id of a job that is paid for.
    """
    limit.reschedule(asyncio.get_running_loop().time() + _LAST_LOOK_S)


async def _read(response: httpx.Response, *, large: AbstractAsyncContextManager[None]) -> Answer:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async with aclosing(response.stream) as stream:
        # Raw, not decompressed: `decode` does that, with a limit.
        raw, pieces = bytearray(), aiter(stream)
        is_large = await _goes_beyond(_LARGE_ANSWER, raw, pieces)
        async with large if is_large else nullcontext():
            if is_large and await _goes_beyond(LONGEST_ANSWER, raw, pieces):
                raw.clear()
            return Answer(
                status=response.status_code,
                body=decode(raw),
                retry_after=retry_after(
                    response.headers.get("Retry-After"), date=response.headers.get("Date")
                ),
            )


async def _goes_beyond(most: int, raw: bytearray, pieces: AsyncIterator[bytes]) -> bool:
    """Add pieces to `raw` until it is longer than `most`, or there are no more."""
    async for piece in pieces:
        raw += piece
        if len(raw) > most:
            return True
    return False
