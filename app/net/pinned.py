"""Connections to addresses that were checked, for httpcore, which knows only the name."""

import socket
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress

import httpcore

from app.net.addresses import IPAddress
from app.net.errors import UnreachableError

# Whatever is in flight when enough has been read was sent in vain.
_SMALL_BUFFER = (socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
_LONGEST_HEAD = 32 * 1024
_MOST_TRIES = 4  # of a name's addresses
_LONGEST_TRY = 2.0  # seconds, for each but the last


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked, whatever the name means by now."""

    def __init__(self, addresses: Sequence[IPAddress]) -> None:
        self._addresses = addresses
        self._plain = httpcore.AnyIOBackend()
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's argument
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._stream = _Stream(await self._first_to_answer(port))
        return self._stream

    async def aclose(self) -> None:
        if self._stream:
            await self._stream.aclose()

    async def _first_to_answer(self, port: int) -> httpcore.AsyncNetworkStream:
        *others, last = self._addresses[:_MOST_TRIES]
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._connect(address, port, _LONGEST_TRY)
        return await self._connect(last, port, None)

    async def _connect(
        self,
        address: IPAddress,
        port: int,
        timeout: float | None,  # noqa: ASYNC109 - httpcore's own
    ) -> httpcore.AsyncNetworkStream:
        return await self._plain.connect_tcp(
            str(address), port, timeout=timeout, socket_options=[_SMALL_BUFFER]
        )


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that limits how much is read until it `has_head`, the response's own.

    Beyond that it raises UnreachableError: interim responses (1xx) cost far more to parse than to
    send, and are parsed in a row without yielding to anybody else.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._room = _LONGEST_HEAD
        self.has_head = False

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's argument
    ) -> bytes:
        if self.has_head:
            return await self._stream.read(max_bytes, timeout)
        if not self._room:
            raise UnreachableError
        piece = await self._stream.read(min(max_bytes, self._room), timeout)
        self._room -= len(piece)
        return piece

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's argument
    ) -> None:
        await self._stream.write(buffer, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's argument
    ) -> httpcore.AsyncNetworkStream:
        self._stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return self

    async def aclose(self) -> None:
        await self._stream.aclose()
