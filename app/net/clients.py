"""Makes every httpx client, so that how the gateway speaks HTTP is decided once."""

import ssl
from datetime import timedelta
from functools import cache
from typing import Any

import httpx

from app.net.transport import AiohttpTransport, ConnectionPool


def trusted(*, timeout: timedelta, connections: int, keepalive: timedelta) -> httpx.AsyncClient:
    """Make a client for the operator's own addresses; it sends every request once, as it is.

    It may be made outside a running loop. A connection idle for longer than `keepalive` is not
    reused.
    """

    def connector() -> ConnectionPool:
        return ConnectionPool(
            ssl=tls(), limit=connections, keepalive_timeout=keepalive.total_seconds()
        )

    return _Direct(
        transport=AiohttpTransport(connector),
        timeout=timeout.total_seconds(),
        # Nothing is ever decompressed: a few kilobytes of gzip can hold gigabytes.
        headers={"Accept-Encoding": "identity"},
        trust_env=False,  # no proxy and no .netrc: the operator's address is the one we call
    )


class _Direct(httpx.AsyncClient):
    """Passes requests to the transport and its responses back, whatever the options say.

    No redirects: a redirected POST is a POST sent twice, and the token with it. No cookies, auth or
    hooks either: finding that there are none takes httpx as long as the call itself.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self._to = transport

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **_: Any
    ) -> httpx.Response:
        if self.is_closed:
            raise RuntimeError("the client is closed")
        request.extensions.setdefault("timeout", self.timeout.as_dict())
        response = await self._to.handle_async_request(request)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response


@cache
def tls() -> ssl.SSLContext:
    """Share one context: it never changes, and reading the root certificates takes 30 ms."""
    return httpx.create_ssl_context(trust_env=False)
