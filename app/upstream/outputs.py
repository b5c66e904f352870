"""Fetches the files that RunComfy made, only from hosts that the operator trusts."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import httpx

from app.core.media_types import SUFFIXES, UNKNOWN, sniff, type_by_name
from app.core.ranges import ByteRange
from app.net.origins import DEFAULT_PORTS
from app.upstream.errors import RefusedError, TryLaterError

GONE = frozenset({403, 404, 410})
"""What a host answers if it no longer has the file; 403: the signed link has expired."""

# The last says how a file was uploaded to an object store; some stores keep sending it.
_NOT_ENCODED = frozenset({"", "identity", "aws-chunked"})
# What a CDN sends in place of a file: "Just a moment...", or an error with status 200.
_PAGES = frozenset({"text/html", "application/json"})
_OK = 200
_ASKED = ("Range", "If-Range", "If-None-Match", "If-Modified-Since")


class OutputClient:
    """Never sends the token, and follows no redirect."""

    def __init__(self, *, client: httpx.AsyncClient, hosts: tuple[str, ...], upstream: str) -> None:
        """`hosts` are names, or `*.name` for all below; `upstream`'s origin is always trusted."""
        self._client = client
        self._hosts = hosts
        self._upstream = _origin(upstream)

    @asynccontextmanager
    async def open(
        self, url: str, *, headers: Mapping[str, str], head: bool = False
    ) -> AsyncIterator[httpx.Response]:
        """Ask for a file with the caller's range and conditions; the body is not read yet.

        If only the `head` is wanted, no range is asked for.

        Raises RefusedError for a host that is not trusted, and TryLaterError if there is no answer,
        or a page in place of the file.
        """
        if not self._is_trusted(url):
            raise RefusedError("The output is on a host that GATEWAY_OUTPUT_HOSTS does not name.")
        try:
            # GET even for the head alone: a link that was signed for GET may refuse HEAD.
            request = self._client.build_request("GET", url, headers=_passed_on(headers, head=head))
            response = await self._client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
            raise TryLaterError(f"The output cannot be fetched ({type(exc).__name__}).") from exc
        try:
            if response.status_code == _OK and _may_be_a_page(response, url):
                await _reject_page(response)
            yield response
        finally:
            await response.aclose()

    def _is_trusted(self, url: str) -> bool:
        origin = _origin(url)
        if origin == self._upstream:
            return True
        scheme, host, port = origin
        return (scheme, port) == ("https", DEFAULT_PORTS["https"]) and any(
            fnmatchcase(host, pattern) for pattern in self._hosts
        )


def known_type(response: httpx.Response, *, url: str) -> str:
    """Return the media type that the answer declares if it is one of ours, else by file name."""
    media_type = _declared_type(response)
    return media_type if media_type in SUFFIXES else type_by_name(url)


def encoding_of(response: httpx.Response) -> str | None:
    """Return how the body is compressed, although we asked for it plain; None if it is not."""
    encoding = str(response.headers.get("Content-Encoding", ""))
    return encoding if encoding.strip().lower() not in _NOT_ENCODED else None


async def body_of(response: httpx.Response) -> AsyncGenerator[bytes]:
    """Yield the bytes as they come over the wire; raise TryLaterError if they break off."""
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except httpx.HTTPError as exc:
        raise TryLaterError(f"The output broke off ({type(exc).__name__}).") from exc


async def cut(body: AsyncGenerator[bytes], start: int, stop: int) -> AsyncGenerator[bytes]:
    """Yield the bytes from `start` up to, not including, `stop`; read no further."""
    at = 0
    async with aclosing(body):
        async for chunk in body:
            if piece := chunk[max(start - at, 0) : stop - at]:
                yield piece
            at += len(chunk)
            if at >= stop:
                return


def _declared_type(response: httpx.Response) -> str:
    declared: str = response.headers.get("Content-Type", "")
    return declared.partition(";")[0].strip().lower()


def _may_be_a_page(response: httpx.Response, url: str) -> bool:
    return _declared_type(response) in _PAGES and type_by_name(url) != UNKNOWN


async def _reject_page(response: httpx.Response) -> None:
    """Raise TryLaterError unless the body begins like a media file, whatever its declared type."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    pieces = aiter(response.stream)
    try:
        first = await anext(pieces, b"")
    except httpx.HTTPError as exc:
        raise TryLaterError(f"The output broke off ({type(exc).__name__}).") from exc
    if sniff(first) is None:
        raise TryLaterError("The output's host sent a page, not the file.")
    response.stream = _PeekedBody(first, pieces, whole=response.stream)


class _PeekedBody(httpx.AsyncByteStream):
    """A body whose first piece has been read already."""

    def __init__(
        self, first: bytes, rest: AsyncIterator[bytes], *, whole: httpx.AsyncByteStream
    ) -> None:
        self._first = first
        self._rest = rest
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        async for piece in self._rest:
            yield piece

    async def aclose(self) -> None:
        await self._whole.aclose()


def _passed_on(headers: Mapping[str, str], *, head: bool) -> Mapping[str, str]:
    """Return the caller's range and conditions, as far as every server accepts them."""
    asked = {name: headers[name] for name in _ASKED if name in headers}
    if not all(value.isascii() for value in asked.values()):
        # No server sent such a tag. The whole file is right, a range without its condition is not.
        return {}
    # Several ranges come back as multipart, under a media type of upstream's choice, and some
    # servers answer 400 to an invalid one; the whole file may always be sent instead.
    wanted = ByteRange.parse(asked.pop("Range", ""))
    if wanted and not head:
        asked["Range"] = str(wanted)
    return asked


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return ("", "", None)
    return (parts.scheme, parts.hostname or "", port)
