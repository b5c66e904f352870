"""httpx's requests over aiohttp's connections, with httpx's exceptions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.tracing import Trace
from yarl import URL

# As much as curl takes: a response whose head we reject may have cost money.
_LONGEST_FIELD = 100 * 2**10
_MOST_FIELDS = 1000
_LONGEST_HEAD = 512 * 2**10
_MOST_UNREAD = 100  # responses, interim ones (1xx) included
_PIECE = 2**16


class ConnectionPool(aiohttp.TCPConnector):
    """A pool that reuses no connection on which data came that nobody had asked for.

    A load balancer may send a 408 before it closes; aiohttp would take it for the next response.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        reader: type[ResponseHandler] = _Reader
        self._factory = partial(reader, loop=self._loop)

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            reader = connection.protocol
            assert isinstance(reader, _Reader)  # none has a connection that was given up
            if not reader.should_close:
                reader.bytes_outside_bodies = 0
                return connection
            connection.close()


class _Reader(ResponseHandler):
    """Ends the body of a response that stops being HTTP midway.

    aiohttp closes the connection, but whoever reads the body would wait for the rest for ever.

    It hangs up on heads that never end, and on responses without end, interim or not asked for:
    they cost far more to parse than to send, and nothing else keeps them from being read.
    """

    bytes_outside_bodies = 0

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data) or 1, _PIECE):
            piece = data[start : start + _PIECE]
            if self._payload is None or self._payload.is_eof():
                self.bytes_outside_bodies += len(piece)
            super().data_received(piece)
            self._end_broken_body()
            if len(self) > _MOST_UNREAD or self.bytes_outside_bodies > _LONGEST_HEAD:
                self._hang_up()
                return

    def _end_broken_body(self) -> None:
        body = self._payload
        if body is not None and not body.is_eof() and self.exception() is not None:
            body.set_exception(aiohttp.ClientPayloadError("what came is no HTTP"))

    def _hang_up(self) -> None:
        self.set_exception(HttpProcessingError(message="a head or responses without end"))
        if self.transport is not None:
            self.transport.abort()


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends each request once; keeps no cookies, follows no redirects, decompresses nothing.

    httpx's own pool looks at all its connections for every request; with 32 of them aiohttp's
    carries eight times as much. It may be made outside a running loop.
    """

    def __init__(self, connector: Callable[[], aiohttp.BaseConnector]) -> None:
        self._connector = connector
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:
            self._session = self._open()
        timeout = request.extensions["timeout"]
        try:
            answer = await self._session.request(
                request.method,
                _address(request),
                # Decoded one by one: httpx would look for an encoding that fits them all.
                headers=[(name.decode(), value.decode()) for name, value in request.headers.raw],
                data=_body(request),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=timeout["connect"],  # includes the wait for a place in the pool
                    sock_read=timeout["read"],
                ),
            )
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as exc:
            raise httpx.UnsupportedProtocol(str(exc)) from exc
        return httpx.Response(
            answer.status, headers=answer.raw_headers, stream=_Answer(answer), request=request
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(translate_errors,),
            skip_auto_headers=("Content-Type",),  # a POST without a body has no type
            auto_decompress=False,
            max_field_size=_LONGEST_FIELD,
            max_headers=_MOST_FIELDS,
        )


class _Answer(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._answer.content.iter_any():
                yield piece
        except aiohttp.SocketTimeoutError as exc:
            raise httpx.ReadTimeout(str(exc)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise httpx.ReadError(str(exc)) from exc

    async def aclose(self) -> None:
        self._answer.release()  # to the pool, if all of it was read
        await self._answer.wait_for_close()


def _address(request: httpx.Request) -> URL:
    """Return the URL unchanged; a `target` replaces path and query, so that one URL serves many.

    Normalised, say `%2F` to `/`, it would no longer be what its host has signed.
    """
    url, target = request.url, request.extensions.get("target")
    if target is None:
        return URL(str(url), encoded=True)
    return URL(f"{url.scheme}://{url.netloc.decode()}{target.decode()}", encoded=True)


def _body(request: httpx.Request) -> bytes | httpx.AsyncByteStream | None:
    if isinstance(request.stream, httpx.ByteStream):
        return b"".join(request.stream) or None
    assert isinstance(request.stream, httpx.AsyncByteStream)
    return request.stream


async def translate_errors(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Turn aiohttp's failures into httpx's: connect errors mean that nothing was sent.

    Done in a middleware, since aiohttp otherwise repeats a GET whose reused connection broke.
    """
    if request.method == "POST":
        # An idle connection may have been closed while the loop was busy. After two turns, one to
        # hear that and one to act on it, the pool no longer offers it.
        await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
        await asyncio.sleep(0)  # noqa: TID251
    try:
        return await send(request)
    except aiohttp.ClientConnectorError as exc:
        raise httpx.ConnectError(str(exc)) from exc
    except aiohttp.ConnectionTimeoutError as exc:  # of the connection, or the wait for one
        raise httpx.ConnectTimeout(str(exc)) from exc
    except aiohttp.SocketTimeoutError as exc:
        raise httpx.ReadTimeout(str(exc)) from exc
    except aiohttp.ClientResponseError as exc:
        problem = f"not HTTP: {exc.status}"
    except (aiohttp.ClientError, OSError) as exc:
        raise httpx.ReadError(str(exc)) from exc
    # Outside the handler, so as not to chain it: its repr shows our headers, with the token.
    raise httpx.RemoteProtocolError(problem)
