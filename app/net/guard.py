"""The only way to an address that a client named: resolved once, checked, then connected to."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import cast

import httpcore
import httpx

from app.net.addresses import IPAddress, literal_ip, unwrapped
from app.net.clients import tls
from app.net.errors import (
    AddressRefusedError,
    RedirectedTooOftenError,
    TooSlowError,
    UnreachableError,
)
from app.net.origins import DEFAULT_PORTS
from app.net.pinned import PinnedBackend
from app.net.reach import PUBLIC, Reach
from app.net.resolver import Resolver, SystemResolver

_LAST_PORT = 65535
_TINY = 64  # bytes
_MOST_TINY_PIECES = 1000


def guarded(
    *,
    deadline: timedelta,
    reach: Reach = PUBLIC,
    resolver: Resolver | None = None,
    context: ssl.SSLContext | None = None,
) -> httpx.AsyncClient:
    """Make a client for addresses that clients name; every request goes through the guard.

    It raises only OutwardError. `deadline` is for one request as a whole, until its body has been
    read. No connection is reused, nothing is decompressed, and only `opened` follows redirects.
    Read bodies with `read_at_most` or `aiter_raw`, never whole.
    """
    return httpx.AsyncClient(
        transport=_GuardedTransport(
            deadline=deadline.total_seconds(),
            reach=reach,
            resolver=resolver or SystemResolver(),
            context=context or tls(),
        ),
        headers={
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": "runcomfy-gateway",
        },
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,
        trust_env=False,  # a proxy would connect where it likes, and .netrc has passwords
    )


@asynccontextmanager
async def opened(
    client: httpx.AsyncClient, request: httpx.Request, *, redirects: int
) -> AsyncIterator[httpx.Response]:
    """Send `request`; follow up to `redirects` redirects, each checked like the first address.

    Raises RedirectedTooOftenError beyond that, and UnreachableError for one that leads to no URL.
    """
    for _ in range(redirects + 1):
        try:
            response = await client.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.InvalidURL, ValueError) as exc:
            raise UnreachableError from exc
        try:
            following = response.next_request
            if following is None:
                yield response
                return
        finally:
            await response.aclose()
        request = following
    raise RedirectedTooOftenError


async def read_at_most(response: httpx.Response, most: int) -> bytes:
    """Read the first bytes of a body as they were sent."""
    content = bytearray()
    raw = cast(AsyncGenerator[bytes, None], response.aiter_raw())
    async with aclosing(raw) as pieces:
        async for piece in pieces:
            content += piece[: most - len(content)]
            if len(content) >= most:
                break
    return bytes(content)


class _GuardedTransport(httpx.AsyncBaseTransport):
    """Checks what httpx would connect to, not what another parser read from the same text."""

    def __init__(
        self, *, deadline: float, reach: Reach, resolver: Resolver, context: ssl.SSLContext
    ) -> None:
        self._deadline = deadline
        self._reach = reach
        self._resolver = resolver
        self._context = context

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        ends = asyncio.get_running_loop().time() + self._deadline
        with _as_outward_errors():
            async with asyncio.timeout_at(ends):
                backend = PinnedBackend(await self._addresses(request.url))
                connection = httpcore.AsyncHTTPConnection(
                    _origin(request.url), ssl_context=self._context, network_backend=backend
                )
                try:
                    response = await connection.handle_async_request(_outgoing(request))
                except BaseException:
                    await backend.aclose()  # httpcore leaves a half-made TLS connection open
                    raise
        response.extensions["network_stream"].has_head = True
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, backend, ends=ends),
        )

    async def _addresses(self, url: httpx.URL) -> Sequence[IPAddress]:
        host, scheme, port = url.raw_host.decode("ascii"), url.scheme, url.port
        if url.userinfo or self._reach.flaw(scheme=scheme, host=host, port=port):
            raise AddressRefusedError
        if not 0 <= (port or 0) <= _LAST_PORT:  # httpx accepts any number
            raise AddressRefusedError
        literal = literal_ip(host)
        addresses = [literal] if literal else await self._resolver.addresses(host)
        # All of them: a name with one private address among public ones is meant to fool us.
        if not all(self._reach.admits(ip, scheme=scheme, port=port) for ip in addresses):
            raise AddressRefusedError
        return [unwrapped(ip) for ip in addresses]


class _Body(httpx.AsyncByteStream):
    """A body whose deadline began with its request; closing it closes the connection.

    A body in tiny pieces raises UnreachableError: they cost far more to read than to send.
    """

    def __init__(self, response: httpcore.Response, backend: PinnedBackend, *, ends: float) -> None:
        self._response = response
        self._backend = backend
        self._ends = ends

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self._response.aiter_stream()
        tiny_pieces = 0
        while True:
            with _as_outward_errors():
                async with asyncio.timeout_at(self._ends):
                    # One-byte chunks come from a buffer, thousands of them without ever yielding.
                    await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
                    piece = await anext(pieces, None)
            if piece is None:
                return
            tiny_pieces += len(piece) < _TINY
            if tiny_pieces > _MOST_TINY_PIECES:
                raise UnreachableError
            yield piece

    async def aclose(self) -> None:
        await self._backend.aclose()


def _origin(url: httpx.URL) -> httpcore.Origin:
    port = url.port or DEFAULT_PORTS[url.scheme]
    return httpcore.Origin(url.raw_scheme, url.raw_host, port)


def _outgoing(request: httpx.Request) -> httpcore.Request:
    url = request.url
    # Certificates are for the name without the trailing dot that makes it absolute.
    name = url.raw_host.decode("ascii").removesuffix(".")
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        ),
        headers=request.headers.raw,
        content=request.stream,
        # Without httpx's time-outs: the transport keeps the deadline, over all phases together.
        extensions={"sni_hostname": name},
    )


@contextmanager
def _as_outward_errors() -> Iterator[None]:
    """Raise only OutwardErrors, without the original messages, which quote addresses."""
    try:
        yield
    except (TimeoutError, httpcore.TimeoutException) as exc:
        raise TooSlowError from exc
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as exc:
        raise UnreachableError from exc
