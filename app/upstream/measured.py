"""Calls to RunComfy, each counted and timed by how it went."""
# ruff: noqa: ASYNC109 - as in the client

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from app.core.clock import Clock
from app.core.metrics import Metrics
from app.upstream.client import UpstreamClient
from app.upstream.errors import (
    NotSentError,
    OutcomeUnknownError,
    RefusedError,
    UpstreamError,
)
from app.upstream.wire import CancelOutcome, CataloguePage, RemoteResult, RemoteStatus


class MeasuredUpstream(UpstreamClient):
    def __init__(self, *, metrics: Metrics, clock: Clock, **client: Any) -> None:
        super().__init__(**client)
        self._metrics = metrics
        self._clock = clock

    async def submit(self, model_id: str, body: Mapping[str, Any], *, timeout: timedelta) -> str:
        with self._timed("submit"):
            return await super().submit(model_id, body, timeout=timeout)

    async def status(self, request_id: str, *, timeout: timedelta) -> RemoteStatus:
        with self._timed("status"):
            return await super().status(request_id, timeout=timeout)

    async def result(self, request_id: str, *, timeout: timedelta) -> RemoteResult:
        with self._timed("result"):
            return await super().result(request_id, timeout=timeout)

    async def cancel(self, request_id: str, *, timeout: timedelta) -> CancelOutcome:
        with self._timed("cancel"):
            return await super().cancel(request_id, timeout=timeout)

    async def models(self, *, offset: int, limit: int, timeout: timedelta) -> CataloguePage:
        with self._timed("models"):
            return await super().models(offset=offset, limit=limit, timeout=timeout)

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        began, outcome = self._clock.monotonic(), "interrupted"
        try:
            yield
            outcome = "ok"
        except UpstreamError as exc:
            outcome = _word(exc)
            raise
        finally:
            seconds = self._clock.monotonic() - began
            self._metrics.upstream_seconds.labels(operation, outcome).observe(seconds)


def _word(error: UpstreamError) -> str:
    match error:
        case RefusedError():
            return "refused"
        case NotSentError():
            return "not_sent"
        case OutcomeUnknownError():
            return "unknown"
        case _:
            return "try_later"
