"""A file at an address that a client named, of which as little as possible is read."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import httpx

from app.net.errors import DeniedError, UnreachableError
from app.net.guard import opened

_REDIRECTS = 3
_FIRST_RANGE = 64 * 1024
_SMALLEST_LOAD = 4 * 1024
_FARTHEST_READ = 2**20
_MOST_REQUESTS = 6
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_OK, _PARTIAL, _OUTSIDE = 200, 206, 416
_BROKEN = 500


class RemoteFiles:
    def __init__(self, client: httpx.AsyncClient) -> None:
        """`client` is a guarded one."""
        self._client = client

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator["RemoteFile"]:
        """Ask for the file's beginning.

        Raises OutwardError, also from `load`: DeniedError for an answer that is a refusal.
        """
        async with AsyncExitStack() as stack:
            file = RemoteFile(self._client, url, stack)
            await file.begin()
            yield file


class RemoteFile:
    """Reads on in one response while that is cheap; a distant offset takes a request of its own."""

    def __init__(self, client: httpx.AsyncClient, url: str, stack: AsyncExitStack) -> None:
        """`stack` owns the response that is being read."""
        self._client = client
        self._url = url
        self._stack = stack
        self._pieces: AsyncIterator[bytes] | None = None
        self._position = 0  # of the next byte of the response that is being read
        self._rest = b""  # read already, from `_position` on
        self._has_ranges = False
        self._requests = 0
        self._load = _SMALLEST_LOAD
        self.size: int | None = None

    async def begin(self) -> None:
        response = await self._ask({"Range": f"bytes=0-{_FIRST_RANGE - 1}"})
        if response.status_code == _OUTSIDE:  # the file is empty, or ranges are not supported
            response = await self._ask({})
        self._begin_at(0, response)

    async def load(self, offset: int) -> bytes | None:
        """Return bytes from `offset` on, at least twice as many as last time or up to the end."""
        is_ahead = 0 <= offset - self._position <= _FIRST_RANGE
        if self._has_ranges and not (is_ahead and self._pieces is not None):
            if self._requests >= _MOST_REQUESTS:
                return None
            if self._ends_at(offset):
                return b""
            await self._jump_to(offset)
        elif offset < self._position or offset + self._load > _FARTHEST_READ:
            return None
        piece = await self._read(offset)
        self._load *= 2
        if not piece and self._has_ranges and not self._ends_at(offset):
            return await self.load(offset)  # the range ended here, not the file
        return piece

    async def measure(self, *, most: int) -> int | None:
        """Return the size; read to the end to find out, but no further than `most`.

        None means that the size is larger, or cannot be known.
        """
        if self.size is not None or self._has_ranges:
            return self.size
        while self._position + len(self._rest) <= most:
            self._position, self._rest = self._position + len(self._rest), b""
            if not await self._more():
                self.size = self._position
                return self.size
        return None

    def _ends_at(self, offset: int) -> bool:
        return self.size is not None and offset >= self.size

    async def _jump_to(self, offset: int) -> None:
        await self._stack.aclose()
        last = offset + max(_FIRST_RANGE, self._load) - 1
        response = await self._ask({"Range": f"bytes={offset}-{last}"})
        if response.status_code == _OUTSIDE:
            self._pieces, self._position, self._rest = None, offset, b""
            self.size = offset if self.size is None else self.size
            return
        self._begin_at(offset, response)

    async def _ask(self, headers: dict[str, str]) -> httpx.Response:
        self._requests += 1
        try:
            request = self._client.build_request("GET", self._url, headers=headers)
            response = await self._stack.enter_async_context(
                opened(self._client, request, redirects=_REDIRECTS)
            )
        except httpx.InvalidURL as exc:
            raise UnreachableError from exc
        if response.status_code >= _BROKEN:
            raise UnreachableError
        if response.status_code not in (_OK, _PARTIAL, _OUTSIDE):
            raise DeniedError(response.status_code)
        return response

    def _begin_at(self, offset: int, response: httpx.Response) -> None:
        self._has_ranges = response.status_code == _PARTIAL
        if self._has_ranges:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != offset:
                raise UnreachableError  # not the range that was asked for
            if found[3]:
                self.size = int(found[3])
            self._position = offset
        elif response.status_code == _OK:
            self.size = _announced(response)
            self._position = 0
        else:
            raise DeniedError(response.status_code)
        self._rest = b""
        raw = cast(AsyncGenerator[bytes, None], response.aiter_raw())
        self._stack.push_async_callback(raw.aclose)
        self._pieces = raw

    async def _read(self, offset: int) -> bytes:
        """Read on until there is enough from `offset` on; what was read before is dropped."""
        while self._position + len(self._rest) < offset + self._load and await self._more():
            pass
        piece = self._rest[offset - self._position :]
        self._position, self._rest = self._position + len(self._rest), b""
        return piece

    async def _more(self) -> bool:
        if self._pieces is None:
            return False
        piece = await anext(self._pieces, b"")
        if not piece:
            self._pieces = None
        self._rest += piece
        return bool(piece)


def _announced(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    counts = _LENGTH.fullmatch(length) and "Transfer-Encoding" not in response.headers
    return int(length) if counts else None
