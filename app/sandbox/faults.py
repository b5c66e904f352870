"""Answers that break the contract: resets, silence, half bodies, pages where JSON should be."""

import json
import socket
import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.sandbox.refusals import Refusal
from app.sandbox.scenarios import Script

_PAGE = "<!doctype html><title>{0}</title><center><h1>{0}</h1></center><hr><center>cdn</center>"
# SO_LINGER for zero seconds: closing drops what is unsent and sends RST.
_NO_LINGER = struct.pack("ii", 1, 0)
_CODES = {"422": 422001, "429": 429001}
_DETAIL = [{"loc": ["body", "prompt"], "msg": "Input is not wanted", "type": "value_error"}]


def broken(fault: str, *, proper: Mapping[str, Any], script: Script, now: datetime) -> Response:
    """Turn a proper body into what this fault leaves of it."""
    if fault in _BROKEN:
        return _BROKEN[fault](proper)
    if fault == "error-200":
        return JSONResponse(Refusal(500000, script=script).body())
    code = _CODES.get(fault) or int(fault.ljust(6, "0"))
    return Refusal(code, detail=_DETAIL if fault == "422" else None, script=script).answer(now)


class ReachableProtocol(HttpToolsProtocol):
    """Passes the connection to the app with each request, which ASGI itself does not."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["connection"] = self.transport


class Reset(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = _connection(scope)
        connection.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER
        )
        connection.abort()
        await _gone(receive)


class Hang(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _gone(receive)


class Half(Response):
    """Promises the whole body, sends its first half, closes."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        half = self.body[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        _connection(scope).close()
        await _gone(receive)


_BROKEN: Mapping[str, Callable[[Mapping[str, Any]], Response]] = {
    "reset": lambda _: Reset(),
    "hang": lambda _: Hang(),
    "half": lambda proper: Half(json.dumps(proper)),
    "html": lambda _: HTMLResponse(_PAGE.format("Just a moment...")),
    "empty": lambda _: Response(media_type="application/json"),
    "junk": lambda _: JSONResponse(["this", "is", "no", "object"]),
    "no-id": lambda proper: JSONResponse({k: proper[k] for k in proper if k != "request_id"}),
    "502": lambda _: HTMLResponse(_PAGE.format("502 Bad Gateway"), 502),
    "504": lambda _: HTMLResponse(_PAGE.format("504 Gateway Time-out"), 504),
}


def _connection(scope: Scope) -> Any:
    try:
        return scope["state"]["connection"]
    except KeyError:
        raise ConnectionResetError("this fault needs a socket, and there is none") from None


async def _gone(receive: Receive) -> None:
    """Wait until the connection is closed; else the server would answer in our place."""
    while (await receive())["type"] != "http.disconnect":
        pass
