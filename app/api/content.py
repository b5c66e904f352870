"""Stored bytes as a response: ranges and conditions (RFC 9110), and nothing that can run here."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.conditions import CONDITION, caller_has
from app.api.deps import CREDENTIALS, header_of
from app.api.described import Described
from app.core.errors import ProblemError
from app.core.media_types import SUFFIXES, UNKNOWN, suffix_of
from app.core.ranges import ByteRange
from app.storage.errors import ObjectGoneError
from app.upstream.errors import UpstreamError

logger = structlog.get_logger(__name__)

Read = Callable[[int, int], AsyncIterator[bytes]]
"""Yields the bytes from a start to an end (exclusive)."""

# First the type that generated clients take for bytes: some read only the first, or fail.
_TYPES = (UNKNOWN, "video/*", "image/*", "audio/*")
_CONTENT = {each: {"schema": {"type": "string", "format": "binary"}} for each in _TYPES}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": _CONTENT},
    206: {"description": "The requested range.", "content": _CONTENT},
    304: {"description": "Not changed."},
}
"""The success responses of a download, for the OpenAPI document."""


DOWNLOAD = Described(
    {
        **CREDENTIALS.headers,
        **CONDITION,
        "Range": "`bytes=0-99`: send only this part.",
        "If-Range": "Send the part if this is still the `ETag`, otherwise the whole file.",
    },
    scheme=CREDENTIALS.scheme,
)
"""The headers that a download reads itself."""


class RangeNotSatisfiableError(ProblemError):
    code = "range_not_satisfiable"
    title = "The file has no such range"
    status = 416

    def __init__(self, size: str) -> None:
        super().__init__(
            "The file ends before that range; Content-Range gives its size.",
            headers={"Content-Range": size},
        )


class Streamed(StreamingResponse):
    """Closes its source however streaming ends, even if it never begins.

    If the source breaks off, so does this: the server then closes the connection, which alone can
    still tell the client. For HEAD it sends only headers and reads nothing.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        source: Any = self.body_iterator
        if scope["method"] == "HEAD":
            self.body_iterator = _nothing()
        try:
            await super().__call__(scope, receive, send)
        except (UpstreamError, ObjectGoneError, ProblemError) as exc:
            logger.warning("download.broken_off", kind=type(exc).__name__, reason=str(exc))
        finally:
            await source.aclose()


def safe_headers(media_type: str, *, name: str) -> dict[str, str]:
    """Let nothing run on our origin: known types only, sandboxed, never sniffed."""
    known = media_type in SUFFIXES
    disposition = "inline" if known else "attachment"
    return {
        "Content-Type": media_type if known else UNKNOWN,
        "Content-Disposition": f'{disposition}; filename="{name}{suffix_of(media_type)}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private",
    }


def stored_content(
    request: Request, read: Read, *, size: int, sha256: str, media_type: str, name: str
) -> Response:
    """Answer with the whole content, or with the requested range."""
    etag = f'"{sha256[:32]}"'
    headers = safe_headers(media_type, name=name) | {"ETag": etag, "Accept-Ranges": "bytes"}
    if caller_has(request, etag):
        return Response(status_code=304, headers=headers)
    wanted = wanted_range(request, etag=etag, size=size)
    start, stop = wanted or (0, size)
    headers["Content-Length"] = str(size)
    if wanted:
        headers |= part_headers(start, stop, size=size)
    status = 206 if wanted else 200
    return Streamed(read(start, stop), status_code=status, headers=headers)


def wanted_range(request: Request, *, etag: str, size: int) -> tuple[int, int] | None:
    """Return the start and end (exclusive) to send; None for all, as when If-Range is stale.

    Range applies to GET alone (RFC 9110, 14.2).
    """
    if request.method != "GET":
        return None
    asked = ByteRange.parse(header_of(request, "Range") or "")
    condition = request.headers.get("If-Range")
    # Strong comparison: a weak tag does not promise the same bytes (RFC 9110, 13.1.5).
    is_met = condition is None or (condition == etag and not etag.startswith("W/"))
    if asked is None or not is_met:
        return None
    span = asked.within(size)
    if span is None:
        raise RangeNotSatisfiableError(f"bytes */{size}")
    return span


def part_headers(start: int, stop: int, *, size: int) -> dict[str, str]:
    return {
        "Content-Length": str(stop - start),
        "Content-Range": f"bytes {start}-{stop - 1}/{size}",
    }


async def _nothing() -> AsyncIterator[bytes]:
    yield b""
