"""Upstream's own file of an output, passed on as it arrives."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
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
from app.upstream.errors import RefusedError, TryLaterError
from app.upstream.outputs import GONE, body_of, cut, encoding_of, known_type

_PASSED_ON = ("Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified")
_BODY_HEADERS = frozenset({"Content-Length", "Content-Range", "Content-Encoding"})
_CONTENT_RANGE = re.compile(r"bytes [0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18})")
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

    Raises OutputGoneError, RangeNotSatisfiableError or OutputUnavailableError.
    """
    # Stays open until the last byte is on its way; closed here if nothing is streamed.
    async with AsyncExitStack() as stack:
        try:
            remote = await stack.enter_async_context(
                gateway.outputs.open(url, headers=request.headers, head=request.method == "HEAD")
            )
        except (RefusedError, TryLaterError) as exc:
            raise OutputUnavailableError(exc.message, headers={"Retry-After": "5"}) from exc
        _check(remote)
        status, size, body = remote.status_code, _size(remote), body_of(remote)
        headers = _headers(remote, size, job_id=job_id, n=n, url=url)
        # Not every file server looks at If-None-Match itself.
        if status == _UNCHANGED or caller_has(request, headers.get("ETag")):
            return Response(status_code=304, headers=_without_body_headers(headers))
        was_ignored = status == _WHOLE and "Range" in remote.request.headers
        if (
            was_ignored
            and size is not None
            and (part := wanted_range(request, etag=headers["ETag"], size=size))
        ):
            status, body = _PART, cut(body, *part)
            headers |= part_headers(*part, size=size)
        relay = _Relay(body, stack.pop_all())
    return Streamed(relay, status_code=status, headers=headers)


def _check(remote: httpx.Response) -> None:
    """Raise the problem for a response that cannot be passed on."""
    if remote.status_code in GONE:
        raise OutputGoneError("RunComfy no longer has this output; run the job again.")
    expected = _IN_PART if "Range" in remote.request.headers else _IN_WHOLE
    if remote.status_code not in expected:
        raise OutputUnavailableError(
            f"The output's host answered {remote.status_code}.", headers={"Retry-After": "5"}
        )
    if remote.status_code == _OUTSIDE:
        # Its body is not passed on: an object store's error names its buckets.
        raise RangeNotSatisfiableError(_header(remote, "Content-Range") or "bytes */*")


class _Relay:
    """Upstream's bytes as they come; closing it hangs up, even if nothing was read."""

    def __init__(self, body: AsyncIterator[bytes], keep_open: AsyncExitStack) -> None:
        self._body = body
        self._keep_open = keep_open

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body

    async def aclose(self) -> None:
        await self._keep_open.aclose()


def _size(remote: httpx.Response) -> int | None:
    """Return the size of the whole file, if the response tells and is not compressed."""
    if encoding_of(remote):
        return None
    if remote.status_code == _WHOLE:
        length = remote.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None
    found = _CONTENT_RANGE.fullmatch(remote.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _header(remote: httpx.Response, name: str) -> str | None:
    """Return one of the host's headers; None if our own server would not send it."""
    value: str = remote.headers.get(name, "")
    return value if value.isascii() and value.isprintable() else None


def _without_body_headers(headers: dict[str, str]) -> dict[str, str]:
    """Drop the headers of a body: HTTP allows a length here, but our server would await one."""
    return {name: value for name, value in headers.items() if name not in _BODY_HEADERS}


def _headers(
    remote: httpx.Response, size: int | None, *, job_id: str, n: int, url: str
) -> dict[str, str]:
    media_type = known_type(remote, url=url)
    names = (*_PASSED_ON, "Content-Encoding") if encoding_of(remote) else _PASSED_ON
    headers = {name: value for name in names if (value := _header(remote, name))}
    if size is not None:
        headers["Accept-Ranges"] = "bytes"
    if remote.status_code != _UNCHANGED:
        headers.setdefault("ETag", _made_etag(size, job_id=job_id, n=n))
    return headers | safe_headers(media_type, name=f"{job_id}-{n}")


def _made_etag(size: int | None, *, job_id: str, n: int) -> str:
    """Make the ETag of a file whose host sends none; the file never changes, so its name will do.

    The length tells it from anything else the host may send. Without a length, or compressed, the
    bytes may differ next time, so the tag is weak. A copy has a tag of its own, from its bytes.
    """
    known = f"{job_id}/{n}" if size is None else f"{job_id}/{n} {size}"
    tag = f'"{sha256(known.encode()).hexdigest()[:32]}"'
    return f"W/{tag}" if size is None else tag
