"""Upstream's own file of an output, passed on as it comes."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256

import httpx
from fastapi import Request, Response

from app.api.conditions import caller_has
from app.api.content import (
    RangeNotSatisfiableError,
    Streamed,
    part_headers,
    safe_headers,
    wanted_range,
)
from app.api.deps import Gateway
from app.core.errors import ProblemError
from app.storage.archive import Archive
from app.upstream.errors import RefusedError, TryLaterError
from app.upstream.outputs import body_of, cut, known_type, packing_of

_PASSED_ON = ("Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified")
_BODY_HEADERS = frozenset({"Content-Length", "Content-Range", "Content-Encoding"})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_GONE = frozenset({403, 404, 410})
_WHOLE, _PART, _UNCHANGED, _OUTSIDE = 200, 206, 304, 416
_IN_WHOLE = frozenset({_WHOLE, _UNCHANGED})
_IN_PART = _IN_WHOLE | {_PART, _OUTSIDE}


class OutputGoneError(ProblemError):
    code = "output_gone"
    title = "RunComfy no longer has the output"
    status = 410


class OutputUnavailableError(ProblemError):
    code = "output_unavailable"
    title = "The output cannot be fetched now"
    status = 503


async def relayed_content(
    gateway: Gateway, request: Request, *, job_id: str, n: int, url: str
) -> Response:
    """Answer with the file at `url`, or with the part of it that the request wants.

    Raises OutputGoneError, RangeNotSatisfiableError or OutputUnavailableError. If upstream breaks
    off, a copy that is finished by then continues.
    """
    # Left open until the last byte is on its way; closed here if it comes to no stream.
    async with AsyncExitStack() as stack:
        try:
            remote = await stack.enter_async_context(
                gateway.outputs.open(url, headers=request.headers)
            )
        except (RefusedError, TryLaterError) as exc:
            raise OutputUnavailableError(exc.message, headers={"Retry-After": "5"}) from exc
        _check(remote)
        status, span, body = remote.status_code, _span(remote), body_of(remote)
        headers = _headers(remote, span, job_id=job_id, n=n, url=url)
        # Not every file server looks at If-None-Match itself.
        if status == _UNCHANGED or caller_has(request, headers.get("ETag")):
            return Response(status_code=304, headers=_bodiless(headers))
        if part := _ignored_range(request, remote, span, etag=headers["ETag"]):
            status, span, body = _PART, part, cut(body, part.start, part.stop)
            headers |= part_headers(part.start, part.stop, size=part.total)
        relay = _Relay(body, span, stack.pop_all(), archive=gateway.archive, job_id=job_id, n=n)
    return Streamed(relay, status_code=status, headers=headers)


def _check(remote: httpx.Response) -> None:
    """Raise the problem that stands for an answer that cannot be passed on."""
    if remote.status_code in _GONE:
        raise OutputGoneError("RunComfy no longer has this output; run the job again.")
    expected = _IN_PART if "Range" in remote.request.headers else _IN_WHOLE
    if remote.status_code not in expected:
        raise OutputUnavailableError(
            f"The output's host answered {remote.status_code}.", headers={"Retry-After": "5"}
        )
    if remote.status_code == _OUTSIDE:
        # Not passed on: an object store's own words name its buckets.
        raise RangeNotSatisfiableError(_header(remote, "Content-Range") or "bytes */*")


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    stop: int
    total: int


class _Relay:
    """Upstream's bytes as they come; if they break off, the copy continues, if there is one yet."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        span: _Span | None,
        keep_open: AsyncExitStack,
        *,
        archive: Archive,
        job_id: str,
        n: int,
    ) -> None:
        self._body = body
        self._span = span
        self._keep_open = keep_open
        self._archive = archive
        self._job_id = job_id
        self._n = n

    async def __aiter__(self) -> AsyncIterator[bytes]:
        sent = 0
        try:
            async for chunk in self._body:
                sent += len(chunk)
                yield chunk
        except TryLaterError:
            copy, span = await self._archive.find(self._job_id, self._n), self._span
            if copy is None or span is None or copy.size != span.total:
                raise
            async for chunk in self._archive.read(copy, span.start + sent, span.stop):
                yield chunk

    async def aclose(self) -> None:
        await self._keep_open.aclose()


def _span(remote: httpx.Response) -> _Span | None:
    """Say which bytes of the file an answer carries, unless they are compressed."""
    if packing_of(remote):
        return None
    if remote.status_code == _WHOLE:
        length = remote.headers.get("Content-Length", "")
        return _Span(0, int(length), int(length)) if length.isdecimal() else None
    found = _CONTENT_RANGE.fullmatch(remote.headers.get("Content-Range", ""))
    return found and _Span(int(found[1]), int(found[2]) + 1, int(found[3]))


def _ignored_range(
    request: Request, remote: httpx.Response, span: _Span | None, *, etag: str
) -> _Span | None:
    """Say which part is wanted if the host was asked for a range and sent the whole file."""
    if remote.status_code != _WHOLE or "Range" not in remote.request.headers or span is None:
        return None
    wanted = wanted_range(request, etag=etag, size=span.total)
    return wanted and _Span(*wanted, span.total)


def _header(remote: httpx.Response, name: str) -> str | None:
    """Return a header of the host's; None if it holds what our own server would not send."""
    value: str = remote.headers.get(name, "")
    return value if value.isascii() and value.isprintable() else None


def _bodiless(headers: dict[str, str]) -> dict[str, str]:
    """Drop the headers of a body: HTTP allows a length, but our server would wait for it."""
    return {name: value for name, value in headers.items() if name not in _BODY_HEADERS}


def _headers(
    remote: httpx.Response, span: _Span | None, *, job_id: str, n: int, url: str
) -> dict[str, str]:
    media_type = known_type(remote, url=url)
    names = (*_PASSED_ON, "Content-Encoding") if packing_of(remote) else _PASSED_ON
    headers = {name: value for name in names if (value := _header(remote, name))}
    if span is not None:
        headers["Accept-Ranges"] = "bytes"
    if remote.status_code != _UNCHANGED:
        headers.setdefault("ETag", _made_etag(span, job_id=job_id, n=n))
    return headers | safe_headers(media_type, name=f"{job_id}-{n}")


def _made_etag(span: _Span | None, *, job_id: str, n: int) -> str:
    """Make the ETag of a file whose host sends none; the file never changes, so its name will do.

    Its length tells it from what a host may send instead. Without a length, or compressed, the
    same bytes may not come twice: the tag is weak. A copy has a tag of its own, from its bytes.
    """
    known = f"{job_id}/{n}" if span is None else f"{job_id}/{n} {span.total}"
    tag = f'"{sha256(known.encode()).hexdigest()[:32]}"'
    return f"W/{tag}" if span is None else tag
