"""The only HTTP to RunComfy: five calls, sent at most once, timed, each failure classified."""
# ruff: noqa: ASYNC109 - callers choose a call's timeout; `_exchange` keeps it

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import SecretStr

from app.core.clock import Clock
from app.core.metrics import Metrics
from app.upstream.classify import Answer, accepted_request_id, readable_body, retry_after
from app.upstream.errors import (
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
    TryLaterError,
    UpstreamError,
)
from app.upstream.messages import clean, strings
from app.upstream.wire import (
    LONGEST_ANSWER,
    CancelOutcome,
    CataloguePage,
    RemoteResult,
    RemoteStatus,
    decode,
    parse_cancel,
    parse_page,
    parse_result,
    parse_status,
)

_LARGE_ANSWER = 2**20
_LARGE_AT_ONCE = 4
_PIECE = 2**16
_LAST_LOOK_S = 0.1
_NOTHING = httpx.ByteStream(b"")
_NEVER_CONNECTED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)


class UpstreamClient:
    """Every `timeout` covers a whole call, from the wait for a connection to the last byte.

    Submits have errors of their own; all else may be repeated and raises TryLaterError, or
    RefusedError where the same call would be refused again.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: SecretStr,
        submits: httpx.AsyncClient,
        reads: httpx.AsyncClient,
        metrics: Metrics,
        clock: Clock,
        submit_retry_statuses: frozenset[int] = frozenset({429}),
    ) -> None:
        """Take two clients, so that submits never wait behind reads.

        `submits` must not reuse connections idle beyond a few seconds: one that RunComfy is just
        closing would look like a lost answer.
        """
        self._calls = httpx.URL(f"{base_url.rstrip('/')}/v1/")
        self._token = token
        self._submits = submits
        self._reads = reads
        self._seconds = cache(metrics.upstream_seconds.labels)
        self._clock = clock
        self._headers = reads.headers.copy()  # as those of `submits`
        self._headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        self._submit_retry_statuses = submit_retry_statuses
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def submit(self, model_id: str, body: Mapping[str, Any], *, timeout: timedelta) -> str:
        """Send a job and return its request id.

        Raises NotSentError, TryLaterError, RefusedError or OutcomeUnknownError, and no others. If
        cancelled before it had a connection it raises NotSentError.
        """
        with self._timed("submit"):
            return await self._submit(model_id, body, timeout=timeout)

    async def _submit(self, model_id: str, body: Mapping[str, Any], *, timeout: timedelta) -> str:
        content = _OneTimeBody(_as_json(body))
        request = self._request(
            "POST",
            ("models", *model_id.split("/")),
            timeout=timeout,
            headers={"Content-Type": "application/json", "Content-Length": str(content.length)},
            params={},
            stream=content,
        )
        exchange = _exchange(
            self._submits,
            request,
            timeout=timeout,
            unsent=NotSentError,
            lost=OutcomeUnknownError,
            large=nullcontext(),  # one that waits for others may be lost
        )
        try:
            answer = await exchange
        except asyncio.CancelledError as exc:
            if content.has_begun:
                raise
            content.withdraw()
            raise NotSentError("The gateway stopped before it was sent.") from exc
        return accepted_request_id(
            answer,
            retry_statuses=self._submit_retry_statuses,
            hidden=chain(self._secrets(), strings(dict(body))),
        )

    async def status(self, request_id: str, *, timeout: timedelta) -> RemoteStatus:
        path = ("requests", request_id, "status")
        with self._timed("status"):
            return parse_status(await self._ask("GET", path, timeout=timeout))

    async def result(self, request_id: str, *, timeout: timedelta) -> RemoteResult:
        path = ("requests", request_id, "result")
        with self._timed("result"):
            body = await self._ask("GET", path, timeout=timeout, include_cost="true")
            return parse_result(body, hidden=self._secrets())

    async def cancel(self, request_id: str, *, timeout: timedelta) -> CancelOutcome:
        path = ("requests", request_id, "cancel")
        with self._timed("cancel"):
            return parse_cancel(await self._ask("POST", path, timeout=timeout))

    async def models(self, *, offset: int, limit: int, timeout: timedelta) -> CataloguePage:
        """Read a page of the catalogue, with schemas."""
        params = {"include_schema": "true", "limit": str(limit), "offset": str(offset)}
        with self._timed("models"):
            return parse_page(await self._ask("GET", ("models",), timeout=timeout, **params))

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        """Measure a call, by how it went."""
        began, outcome = self._clock.monotonic(), "interrupted"
        try:
            yield
            outcome = "ok"
        except UpstreamError as exc:
            outcome = exc.outcome
            raise
        finally:
            seconds = self._clock.monotonic() - began
            self._seconds(operation, outcome).observe(seconds)

    async def _ask(
        self, method: str, path: tuple[str, ...], *, timeout: timedelta, **params: str
    ) -> dict[str, Any]:
        """Make a call that may be repeated, whatever happens to it."""
        request = self._request(method, path, timeout=timeout, headers={}, params=params)
        answer = await _exchange(
            self._reads,
            request,
            timeout=timeout,
            unsent=TryLaterError,
            lost=TryLaterError,
            large=self._large,
        )
        return readable_body(answer, hidden=self._secrets())

    def _request(
        self,
        method: str,
        segments: tuple[str, ...],
        *,
        timeout: timedelta,
        headers: Mapping[str, str],
        params: Mapping[str, str],
        stream: httpx.AsyncByteStream = _NOTHING,
    ) -> httpx.Request:
        if not {"", ".", ".."}.isdisjoint(segments):
            raise RefusedError("The id is not a path of names.")
        half = timeout.total_seconds() / 2
        try:
            path = "/".join(quote(segment, safe="") for segment in segments)
        except ValueError as exc:
            raise RefusedError("The id cannot be put into an address.") from exc
        query = f"?{urlencode(params)}" if params else ""
        # Not by the client's own build_request, which merges its defaults into each request; nor
        # with an address or content that httpx must parse: every poll is one or two requests.
        request = httpx.Request(
            method,
            self._calls,
            headers=self._headers,
            stream=stream,
            extensions={
                "target": self._calls.raw_path + f"{path}{query}".encode(),
                # Getting a connection has half the time: if it could end with the whole, nobody
                # would know whether something was sent. The exchange has the rest.
                "timeout": {"connect": half, "read": None},
            },
        )
        if headers:
            request.headers.update(headers)
        return request

    def _secrets(self) -> tuple[str, ...]:
        return (self._token.get_secret_value(),)


async def _exchange(
    client: httpx.AsyncClient,
    request: httpx.Request,
    *,
    timeout: timedelta,
    unsent: type[UpstreamError],
    lost: type[UpstreamError],
    large: AbstractAsyncContextManager[None],
) -> Answer:
    """Send once, and read a large answer within `large`; raise `unsent` or `lost`, no others."""
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
    except Exception as exc:  # the answer is lost, whatever broke
        raise lost(f"RunComfy's answer was lost ({type(exc).__name__}).", outage=True) from exc


async def _sent(
    client: httpx.AsyncClient, request: httpx.Request, *, unsent: type[UpstreamError]
) -> httpx.Response:
    try:
        return await client.send(request, stream=True)
    except _NEVER_CONNECTED as exc:
        raise unsent(clean(f"RunComfy cannot be reached: {exc}"), outage=True) from exc


def _look_once_more(limit: asyncio.Timeout) -> None:
    """End a call whose time is over, but only once all that has arrived was read.

    A loop looks at its clock before its sockets: a process that was frozen would find the time over
    and throw away the waiting answer, with the id of a job that is paid for.
    """
    limit.reschedule(asyncio.get_running_loop().time() + _LAST_LOOK_S)


async def _read(response: httpx.Response, *, large: AbstractAsyncContextManager[None]) -> Answer:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async with aclosing(response.stream) as stream:
        # As it comes: `decode` unpacks no bomb.
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


class _OneTimeBody(httpx.AsyncByteStream):
    """A body sent piece by piece: a large one blocks nothing, and none is sent twice.

    Without a whole body there is no request: if the body was not read, the request was not sent.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._is_withdrawn = False
        self.has_begun = False

    @property
    def length(self) -> int:
        return len(self._content)

    def withdraw(self) -> None:
        # The connection may have a writer of its own, which does not know.
        self._is_withdrawn = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_withdrawn or self.has_begun:
            raise httpx.WriteError("withdrawn, or sent before")
        self.has_begun = True
        for start in range(0, len(self._content), _PIECE):
            yield self._content[start : start + _PIECE]


def _as_json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(body), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise RefusedError("The input cannot be written as JSON.") from exc
