"""HTTP as the server parses it, before the application sees a request."""

import asyncio
from typing import Any

import httptools
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.context import assign_request_id
from app.api.problems import BadRequestError, render

_LONGEST_HEAD = 64 * 1024
# Like nginx's `send_timeout`; a player that was paused asks again, with Range.
_STALLED_FOR_S = 60


class StrictProtocol(HttpToolsProtocol):
    """Refuses malformed HTTP and unknown methods with the same problems as the app.

    So too headers or trailers that never end: the parser would keep them all in memory. A client
    that reads nothing of its response for a minute is disconnected, since it may hold one of the
    few connections to RunComfy's files.
    """

    _bytes_of_head = 0
    _stall_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)

    def head_without_upgrade(self) -> bytes:
        """Rewrite the head that was just read without its offer to switch protocols."""
        version = self.parser.get_http_version().encode()
        first = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)
        kept = [line for line in self.headers if line[0] != b"upgrade"]
        return first + b"".join(b"%b: %b\r\n" % line for line in kept) + b"\r\n"

    def data_received(self, data: bytes) -> None:
        self._bytes_of_head += len(data)
        super().data_received(data)
        if self._bytes_of_head > _LONGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head is too long.")

    def on_headers_complete(self) -> None:
        self._bytes_of_head = 0
        super().on_headers_complete()
        if not self.parser.should_upgrade():  # else this head is parsed again
            self.headers = []  # trailers are no headers of their request (RFC 9110, 6.5.1)

    def on_body(self, body: bytes) -> None:
        self._bytes_of_head = 0
        super().on_body(body)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(_STALLED_FOR_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_stall_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_stall_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        scope = {"type": "http", "path": "", "headers": []}
        request_id = assign_request_id(scope)
        problem = BadRequestError(
            "That is not an HTTP request; check its method, target and headers, and their length."
        )
        answer = render(problem, Request(scope))
        headers = (
            *answer.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"server-timing", b"gateway;dur=0.0"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        )
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[answer.status_code] + lines + b"\r\n" + answer.body)
        self.transport.close()

    def _should_upgrade(self) -> bool:
        """Let the parser decide on an upgrade: it feeds the request again without the offer."""
        if self.parser.get_method() == b"CONNECT":  # which itself asks to switch
            raise httptools.HttpParserInvalidMethodError
        return True

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


class _Parser(httptools.HttpRequestParser):
    """Declines every protocol upgrade, as RFC 9110 allows (7.8), and serves the request.

    Java's client offers HTTP/2 with its first request, whatever that is. The base class assumes
    that such a head is followed by the new protocol, and so takes the body for another request.
    """

    def __init__(self, protocol: StrictProtocol) -> None:
        self._protocol = protocol
        self._begin()

    def feed_data(self, data: Any) -> None:
        left = memoryview(data)
        while left:
            try:
                super().feed_data(left)
            except httptools.HttpParserUpgrade as offer:
                left = left[offer.args[0] :]
                head = self._protocol.head_without_upgrade()
                self._begin()
                super().feed_data(head)
            else:
                return

    def _begin(self) -> None:
        """Start afresh: after the last request of a connection the parser accepts no other."""
        super().__init__(self._protocol)
        # As in uvicorn: data after such a request is ignored and does not spoil its response.
        self.set_dangerous_leniencies(lenient_data_after_close=True)
