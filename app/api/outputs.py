"""/v1/jobs/{id}/outputs/{n}: the files a job made, streamed without RunComfy's address."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import httpx
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.api.conditions import caller_has
from app.api.content import (
    ANSWERS,
    DOWNLOAD,
    RangeNotSatisfiableError,
    Streamed,
    part_headers,
    safe_headers,
    stored_content,
    wanted_range,
)
from app.api.deps import CALLER_PROBLEMS, Gateway, Services, caller
from app.api.links import Expires, Grant, InvalidSignatureError, Signature, holder_of_link
from app.api.problems import problem_responses
from app.api.routing import Router
from app.auth.models import Scope
from app.core.errors import NotFoundError, ProblemError
from app.jobs.errors import JobNotFoundError
from app.jobs.links import LinkClaim
from app.jobs.models import Job
from app.jobs.wire import output_urls
from app.storage.archive import Archive, OutputRecord
from app.storage.errors import StorageUnavailableError
from app.upstream.errors import RefusedError, TryLaterError
from app.upstream.outputs import body_of, cut, known_type, packing_of

router = Router(prefix="/v1/jobs", tags=["outputs"], responses=problem_responses(*CALLER_PROBLEMS))

_PASSED_ON = ("Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified")
_OF_BODY = frozenset({"Content-Length", "Content-Range", "Content-Encoding"})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_GONE = frozenset({403, 404, 410})
_WHOLE, _PART, _UNCHANGED, _OUTSIDE = 200, 206, 304, 416
_IN_WHOLE = frozenset({_WHOLE, _UNCHANGED})
_IN_PART = _IN_WHOLE | {_PART, _OUTSIDE}


class OutputNotFoundError(NotFoundError):
    code = "output_not_found"
    title = "The job has no such output"


class OutputGoneError(ProblemError):
    code = "output_gone"
    title = "RunComfy no longer has the output"
    status = 410


class OutputUnavailableError(ProblemError):
    code = "output_unavailable"
    title = "The output cannot be fetched now"
    status = 503


_authenticate = caller(Scope.JOBS_READ)


@router.head("/{job_id}/outputs/{n}", include_in_schema=False)
@router.get(
    "/{job_id}/outputs/{n}",
    summary="Download an output",
    description="Ranges and conditions are honoured. The signature of a link in a job stands in for"
    " a key until it expires.",
    response_class=StreamingResponse,
    # A key, or a signature in the link.
    openapi_extra={"security": [{"HTTPBearer": []}, {}]},
    responses={
        **ANSWERS,
        **problem_responses(
            InvalidSignatureError,
            JobNotFoundError,
            OutputNotFoundError,
            OutputGoneError,
            RangeNotSatisfiableError,
            OutputUnavailableError,
            StorageUnavailableError,
        ),
    },
)
@DOWNLOAD
async def download_output(
    gateway: Gateway,
    request: Request,
    job_id: str,
    n: int,
    grant: Grant = None,
    expires: Expires = None,
    signature: Signature = None,
) -> Response:
    job = await _permitted(
        gateway, request, job_id, n, grant=grant, expires=expires, signature=signature
    )
    urls = output_urls(job)
    if not 0 <= n < len(urls):
        raise OutputNotFoundError(f"The job {job_id} has {len(urls)} outputs, counted from 0.")
    with suppress(StorageUnavailableError):  # upstream may still have it
        if copy := await gateway.archive.find(job_id, n):
            return _copied(gateway, request, copy)
    try:
        return await _relayed(gateway, request, job_id=job_id, n=n, url=urls[n])
    except (OutputGoneError, OutputUnavailableError):
        # The copy may have been finished while upstream was asked.
        if copy := await gateway.archive.find(job_id, n):
            return _copied(gateway, request, copy)
        raise


def _copied(gateway: Services, request: Request, copy: OutputRecord) -> Response:
    assert copy.size is not None
    assert copy.sha256 is not None
    assert copy.media_type is not None
    return stored_content(
        request,
        partial(gateway.archive.read, copy),
        size=copy.size,
        sha256=copy.sha256,
        media_type=copy.media_type,
        name=f"{copy.job_id}-{copy.n}",
    )


async def _relayed(
    gateway: Services, request: Request, *, job_id: str, n: int, url: str
) -> Response:
    """Answer with upstream's own file, as it comes."""
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
    return Streamed(relay, status_code=status, headers=headers, media_type=headers["Content-Type"])


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
        raise RangeNotSatisfiableError(remote.headers.get("Content-Range", "bytes */*"))


async def _permitted(
    gateway: Gateway,
    request: Request,
    job_id: str,
    n: int,
    *,
    grant: str | None,
    expires: int | None,
    signature: str | None,
) -> Job:
    if signature is None:
        principal = await _authenticate(request)
        return await gateway.jobs.get(job_id, user_id=principal.user_id)
    if expires is None:
        raise InvalidSignatureError
    if grant is not None:
        claim = LinkClaim(grant, expires, signature)
        holder = await holder_of_link(gateway, request, claim, job_id=job_id, path=f"outputs/{n}")
        return await gateway.jobs.get(job_id, user_id=holder.user_id)
    if not gateway.wire.output_is_signed(
        job_id, n, expires=expires, signature=signature, at=gateway.clock.now()
    ):
        raise InvalidSignatureError
    return await gateway.jobs.get_signed(job_id)


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


def _bodiless(headers: dict[str, str]) -> dict[str, str]:
    """Drop the headers of a body: HTTP allows a length, but our server would wait for it."""
    return {name: value for name, value in headers.items() if name not in _OF_BODY}


def _headers(
    remote: httpx.Response, span: _Span | None, *, job_id: str, n: int, url: str
) -> dict[str, str]:
    media_type = known_type(remote, url=url)
    headers = {name: value for name in _PASSED_ON if (value := remote.headers.get(name))}
    if packing := packing_of(remote):
        headers["Content-Encoding"] = packing
    if span is not None:
        headers["Accept-Ranges"] = "bytes"
    if remote.status_code != _UNCHANGED:
        headers.setdefault("ETag", _own_tag(span, job_id=job_id, n=n))
    return headers | safe_headers(media_type, name=f"{job_id}-{n}")


def _own_tag(span: _Span | None, *, job_id: str, n: int) -> str:
    """Make the ETag of a file whose host sends none; the file never changes, so its name will do.

    Its length tells it from what a host may send instead. Without a length, or compressed, the
    same bytes may not come twice: the tag is weak. A copy has a tag of its own, from its bytes.
    """
    known = f"{job_id}/{n}" if span is None else f"{job_id}/{n} {span.total}"
    tag = f'"{sha256(known.encode()).hexdigest()[:32]}"'
    return f"W/{tag}" if span is None else tag
