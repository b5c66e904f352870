"""Stored bytes as an answer: ranges and conditions (RFC 9110), and nothing that could run here."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.conditions import caller_has
from app.api.deps import header_of
from app.core.errors import ProblemError
from app.core.media_types import SUFFIXES, UNKNOWN, suffix_of

Read = Callable[[int, int], AsyncIterator[bytes]]
"""Gives the bytes from one offset to before another."""

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"*/*": {}}},
    206: {"description": "The range that was asked for.", "content": {"*/*": {}}},
    304: {"description": "Not changed."},
}
"""What a download can answer where all is well, for the OpenAPI document."""

_LONGEST_NUMBER = 30


class RangeNotSatisfiableError(ProblemError):
    code = "range_not_satisfiable"
    title = "The output has no such range"
    status = 416

    def __init__(self, size: str) -> None:
        super().__init__(
            "The file ends before that range; Content-Range tells its size.",
            headers={"Content-Range": size},
        )


class Streamed(StreamingResponse):
    """Closes what it streams from, however the streaming ends, or if it never begins."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            source: Any = self.body_iterator
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
    """Answer with what is stored, or with the range of it that was asked for."""
    etag = f'"{sha256[:32]}"'
    headers = safe_headers(media_type, name=name) | {"ETag": etag, "Accept-Ranges": "bytes"}
    if caller_has(request, etag):
        return Response(status_code=304, headers=headers)
    wanted = _range(request, etag=etag, size=size)
    start, stop = wanted or (0, size)
    headers["Content-Length"] = str(stop - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    status = 206 if wanted else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return Streamed(
        read(start, stop), status_code=status, headers=headers, media_type=headers["Content-Type"]
    )


def _bounded(digits: str) -> int:
    """Read a number that may have thousands of digits; beyond any file they are all alike."""
    return int(digits.lstrip("0")[:_LONGEST_NUMBER] or "0")


def _range(request: Request, *, etag: str, size: int) -> tuple[int, int] | None:
    """Read a single range of bytes; anything else, and a stale If-Range, means the whole."""
    asked = header_of(request, "Range")
    if asked is None or request.headers.get("If-Range", etag) != etag:
        return None
    unit, _, spec = asked.partition("=")
    first, dash, last = (part.strip() for part in spec.partition("-"))
    if unit.strip().lower() != "bytes" or not dash or not (first or last):
        return None
    if not all(part.isascii() and (part.isdigit() or not part) for part in (first, last)):
        return None  # several ranges too: the whole is always allowed
    if not first:
        start, stop = max(size - _bounded(last), 0), size
    else:
        start, stop = _bounded(first), min(_bounded(last) + 1, size) if last else size
        if last and _bounded(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiableError(f"bytes */{size}")
    return start, stop
