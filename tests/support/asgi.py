"""Requests as no well-behaved client would send them, straight into the application."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import httpx
from fastapi import FastAPI


async def send_raw(
    app: FastAPI,
    method: str,
    path: str,
    *,
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
) -> httpx.Response:
    """Call the app like a server that passes on whatever it is sent."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "root_path": "",
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    sent: list[dict[str, Any]] = []
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop()
        await anyio.sleep_forever()
        raise AssertionError("the client never leaves")

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *parts = sent
    return httpx.Response(
        start["status"],
        headers=start["headers"],
        content=b"".join(part.get("body", b"") for part in parts),
        # As the server understood it: there may be no URL that says the same.
        request=httpx.Request(method, httpx.URL("http://test").copy_with(path="/")),
    )


async def in_chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
