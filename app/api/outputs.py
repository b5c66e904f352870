"""/v1/jobs/{id}/outputs/{n}: the files a job made, streamed without RunComfy's address."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app.api.conditions import caller_has
from app.api.content import RangeNotSatisfiableError
from app.api.deps import Gateway, caller
from app.api.links import Expires, Grant, InvalidSignatureError, Signature, holder_of_link
from app.api.problems import problem_responses
from app.auth.errors import MissingScopeError, UnauthenticatedError
from app.auth.models import Scope
from app.core.errors import DatabaseUnavailableError, NotFoundError, ProblemError
from app.jobs.errors import JobNotFoundError
from app.jobs.links import LinkClaim
from app.jobs.models import Job
from app.jobs.wire import output_urls
from app.upstream.errors import RefusedError, TryLaterError

router = APIRouter(prefix="/v1/jobs", tags=["outputs"])

_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
    ".flac": "audio/flac",
}
_PASSED_ON = ("Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified")
_GONE = frozenset({403, 404, 410})
_PASSED_STATUSES = frozenset({200, 206, 304})
_WHOLE, _OUTSIDE = 200, 416


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
        200: {"description": "The file.", "content": {"*/*": {}}},
        206: {"description": "The range that was asked for.", "content": {"*/*": {}}},
        304: {"description": "Not changed."},
        **problem_responses(
            UnauthenticatedError,
            InvalidSignatureError,
            MissingScopeError,
            JobNotFoundError,
            OutputNotFoundError,
            OutputGoneError,
            RangeNotSatisfiableError,
            OutputUnavailableError,
            DatabaseUnavailableError,
        ),
    },
)
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
    # Left open until the last byte is on its way; closed here if it comes to no stream.
    async with AsyncExitStack() as stack:
        try:
            remote = await stack.enter_async_context(
                gateway.outputs.open(request.method, urls[n], headers=request.headers)
            )
        except (RefusedError, TryLaterError) as exc:
            raise OutputUnavailableError(exc.message, headers={"Retry-After": "5"}) from exc
        if remote.status_code in _GONE:
            raise OutputGoneError("RunComfy no longer has this output; run the job again.")
        if remote.status_code == _OUTSIDE:
            # Not passed on: an object store's own words name its buckets.
            size = remote.headers.get("Content-Range", "bytes */*")
            raise RangeNotSatisfiableError(size)
        if remote.status_code not in _PASSED_STATUSES:
            raise OutputUnavailableError(
                f"The output's host answered {remote.status_code}.", headers={"Retry-After": "5"}
            )
        headers = _headers(remote, job_id=job_id, n=n, url=urls[n])
        if remote.status_code == _WHOLE and caller_has(request, remote.headers.get("ETag")):
            # Not every file server looks at If-None-Match itself.
            return Response(status_code=304, headers=_unsized(headers))
        keep_open = stack.pop_all()
    return StreamingResponse(
        _stream(remote, keep_open),
        status_code=remote.status_code,
        headers=headers,
        media_type=headers["Content-Type"],
    )


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
        principal = await _authenticate(request, gateway, None)
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


async def _stream(remote: httpx.Response, keep_open: AsyncExitStack) -> AsyncIterator[bytes]:
    async with keep_open:
        async for chunk in remote.aiter_raw():
            yield chunk


def _unsized(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Content-Length"}


def _headers(remote: httpx.Response, *, job_id: str, n: int, url: str) -> dict[str, str]:
    """Let nothing from upstream run on our origin: known types only, sandboxed, never sniffed."""
    suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    media_type = remote.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in _TYPES.values():
        media_type = _TYPES.get(suffix, "application/octet-stream")
    known = media_type in _TYPES.values()
    suffix = next((end for end, kind in _TYPES.items() if kind == media_type), ".bin")
    disposition = "inline" if known else "attachment"
    return {
        **{name: remote.headers[name] for name in _PASSED_ON if name in remote.headers},
        "Content-Type": media_type,
        "Content-Disposition": f'{disposition}; filename="{job_id}-{n}{suffix}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private",
    }
