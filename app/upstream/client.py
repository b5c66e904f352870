"""All API calls to RunComfy: five kinds, each sent at most once, timed, its failures classified."""
# ruff: noqa: ASYNC109 - callers choose a call's timeout; `exchange` enforces it

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import SecretStr

from app.core.clock import Clock
from app.core.metrics import Metrics
from app.upstream.classify import accepted_request_id, readable_body
from app.upstream.errors import (
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
    TryLaterError,
    UpstreamError,
)
from app.upstream.exchange import OneTimeBody, exchange
from app.upstream.messages import strings
from app.upstream.wire import (
    CancelOutcome,
    CataloguePage,
    RemoteResult,
    RemoteStatus,
    parse_cancel,
    parse_page,
    parse_result,
    parse_status,
)

_LARGE_AT_ONCE = 4
_NO_BODY = httpx.ByteStream(b"")


class UpstreamClient:
    """Every `timeout` covers a whole call, from the wait for a connection to the last byte.

    Submits have errors of their own; all other calls may be repeated, and raise TryLaterError, or
    RefusedError if the same call would be refused again.
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

        `submits` must not reuse connections that were idle for more than a few seconds: one that
        RunComfy is just closing would look like a lost answer.
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
        cancelled before its body was begun, it raises NotSentError.
        """
        with self._timed("submit"):
            return await self._submit(model_id, body, timeout=timeout)

    async def _submit(self, model_id: str, body: Mapping[str, Any], *, timeout: timedelta) -> str:
        content = OneTimeBody(_as_json(body))
        request = self._request(
            "POST",
            ("models", *model_id.split("/")),
            timeout=timeout,
            headers={"Content-Type": "application/json", "Content-Length": str(content.length)},
            params={},
            stream=content,
        )
        exchanging = exchange(
            self._submits,
            request,
            timeout=timeout,
            unsent=NotSentError,
            lost=OutcomeUnknownError,
            large=nullcontext(),  # an answer that waited for others might be lost
        )
        try:
            answer = await exchanging
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
        """Measure a call's time, by its outcome."""
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
        """Make a call that may be repeated whatever its outcome."""
        request = self._request(method, path, timeout=timeout, headers={}, params=params)
        answer = await exchange(
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
        stream: httpx.AsyncByteStream = _NO_BODY,
    ) -> httpx.Request:
        if not {"", ".", ".."}.isdisjoint(segments):
            raise RefusedError("The id is not a path of names.")
        half = timeout.total_seconds() / 2
        try:
            path = "/".join(quote(segment, safe="") for segment in segments)
        except ValueError as exc:
            raise RefusedError("The id cannot be put into an address.") from exc
        query = f"?{urlencode(params)}" if params else ""
        # Not with the client's build_request, which merges its defaults into each request, nor
        # with a URL or content that httpx must parse: every poll is one or two requests.
        request = httpx.Request(
            method,
            self._calls,
            headers=self._headers,
            stream=stream,
            extensions={
                "target": self._calls.raw_path + f"{path}{query}".encode(),
                # Half the time to connect: if that could take all of it, nobody would know whether
                # anything was sent. The exchange has the rest.
                "timeout": {"connect": half, "read": None},
            },
        )
        if headers:
            request.headers.update(headers)
        return request

    def _secrets(self) -> tuple[str, ...]:
        return (self._token.get_secret_value(),)


def _as_json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(body), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise RefusedError("The input cannot be written as JSON.") from exc
