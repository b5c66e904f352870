"""Around every request: its id, the time we take, a limit on its body, and a bare 500 for bugs."""

import asyncio
from collections.abc import Mapping
from functools import cache

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import READS, assign_request_id
from app.api.cors import Cors
from app.api.health import InterruptedRequestError
from app.api.limits import limit_headers
from app.api.problems import InternalError, InvalidParameterError, PayloadTooLargeError, render
from app.core.clock import Clock
from app.core.external_wait import counted_external_waits, external_wait
from app.core.metrics import Metrics

logger = structlog.get_logger(__name__)

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""What monitoring requests all the time, left out of metrics and traces that it would swamp."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_ROUTE = "none"
_MOST_PARAMETERS = 100  # far more than any call takes; each costs more to parse than to send

# Pages and media set their own policy; nothing else is meant to be shown, run or cached: a client
# that revalidates a job by its ETag would see an old place in the queue.
_DEFAULT_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class EdgeMiddleware:
    """Pure ASGI: the framework's own middleware classes cost each request a task and a queue."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        max_body_bytes: int,
        cors: Cors,
        metrics: Metrics,
        closing: asyncio.Event,
    ) -> None:
        self._app = app
        self._closing = closing
        self._answers = cache(metrics.requests.labels)
        self._seconds = cache(metrics.request_seconds.labels)
        self._cors = cors
        self._clock = clock
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = assign_request_id(scope)
        began = self._clock.monotonic()
        has_begun = False

        async def send_marked(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                spent = self._clock.monotonic() - began - waits.seconds
                self._count(scope, message["status"], spent)
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"server-timing", b"gateway;dur=%.1f" % (spent * 1000)),
                    *(header for header in _DEFAULT_HEADERS if header[0] not in present),
                    *await limit_headers(scope),
                ]
                self._cors.add_headers(message, scope)
            await send(message)

        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        with counted_external_waits() as waits:
            try:
                # The body of a read is ignored; downloads only listen for a disconnect.
                if scope["method"] not in READS:
                    receive = self._body(receive, Headers(scope=scope))
                app = self._cors.preflight(scope) or _refusal(scope) or self._app
                await app(scope, receive, send_marked)
            except ClientDisconnect:  # while sending its body: nobody is waiting for an answer
                logger.info("request.abandoned", **_labels(scope))
            except asyncio.CancelledError:
                # Seconds after being told to stop, the server cancels unanswered requests.
                if has_begun or not self._closing.is_set():
                    raise
                logger.warning("request.interrupted", **_labels(scope))
                answer = render(InterruptedRequestError(), Request(scope))
                await answer(scope, receive, send_marked)
            except Exception:
                logger.exception("request.failed", **_labels(scope))
                if has_begun:
                    return  # the server closes the connection of an answer without an end
                answer = render(InternalError(), Request(scope))
                await answer(scope, receive, send_marked)
            finally:
                structlog.contextvars.reset_contextvars(**bound)

    def _body(self, receive: Receive, headers: Headers) -> Receive:
        """Refuse a body that is too long, whether or not it announced its length.

        The time it takes to arrive does not count as ours.
        """
        announced = headers.get("content-length", "")
        received, is_whole = 0, False

        async def receive_bounded() -> Message:
            nonlocal received, is_whole
            if is_whole:
                return await receive()
            if announced.isdecimal() and int(announced[:20]) > self._max_body_bytes:
                raise _too_large(self._max_body_bytes)
            with external_wait(self._clock):
                message = await receive()
            is_whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise _too_large(self._max_body_bytes)
            return message

        return receive_bounded

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        labels = _labels(scope)
        if labels["route"] not in PROBES:
            self._answers(labels["method"], labels["route"], status).inc()
            self._seconds(labels["route"]).observe(seconds)


def _labels(scope: Scope) -> Mapping[str, str]:
    """Label a request by its route: clients choose paths, and each would be a new label."""
    return {
        "method": scope["method"] if scope["method"] in _METHODS else "other",
        "route": getattr(scope.get("route"), "path", "") or _NO_ROUTE,
    }


def _refusal(scope: Scope) -> Response | None:
    """Refuse a query that the framework would parse before the caller is authenticated."""
    query: bytes = scope["query_string"]
    if query.count(b"&") < _MOST_PARAMETERS:
        return None
    last = query.rpartition(b"&")[2].partition(b"=")[0][:64].decode("latin-1")
    detail = f"The address has more than {_MOST_PARAMETERS} parameters; no call knows so many."
    return render(InvalidParameterError(last, detail), Request(scope))


def _too_large(most: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"The body is longer than {most} bytes (GATEWAY_MAX_BODY_BYTES);"
        " name large media by a URL instead of sending it."
    )
