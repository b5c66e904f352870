"""/v1/jobs/{id}/outputs/{n}: the files a job made, streamed without RunComfy's address."""

from functools import partial
from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from app.api.content import ANSWERS, DOWNLOAD, RangeNotSatisfiableError, stored_content
from app.api.deps import Gateway, caller
from app.api.links import Expires, Grant, InvalidSignatureError, Signature, holder_of_link
from app.api.problems import problem_responses
from app.api.relay import OutputGoneError, OutputUnavailableError, relayed_content
from app.api.routing import caller_router
from app.auth.scopes import Scope
from app.core.errors import NotFoundError
from app.jobs.errors import JobNotFoundError
from app.jobs.links import LinkClaim
from app.jobs.models import Job, output_urls
from app.storage.archive import OutputRecord
from app.storage.errors import StorageUnavailableError

router = caller_router("/v1/jobs", tag="outputs")


class OutputNotFoundError(NotFoundError):
    code = "output_not_found"
    title = "The job has no such output"


_authenticate = caller(Scope.JOBS_READ)


@router.head("/{job_id}/outputs/{n}", include_in_schema=False)
@router.get(
    "/{job_id}/outputs/{n}",
    summary="Download an output",
    description=(
        "Supports ranges and conditional requests. The signed link in a job needs no key until it "
        "expires. The `name` in it is for clients that tell a file by how its address ends."
    ),
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
    name: Annotated[str | None, Query(max_length=16)] = None,
) -> Response:
    job = await _permitted(
        gateway, request, job_id, n, grant=grant, expires=expires, signature=signature, name=name
    )
    urls = output_urls(job.output)
    if not 0 <= n < len(urls):
        raise OutputNotFoundError(f"The job {job_id} has {len(urls)} outputs, counted from 0.")
    relayed = partial(relayed_content, gateway, request, job_id=job_id, n=n, url=urls[n])
    try:
        copy = await gateway.archive.find(job_id, n)
    except StorageUnavailableError as exc:
        try:
            return await relayed()
        except OutputGoneError:  # gone upstream, yet the archive has it once that is back
            raise exc from None
    return await relayed() if copy is None else _copied(gateway, request, copy)


def _copied(gateway: Gateway, request: Request, copy: OutputRecord) -> Response:
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


async def _permitted(
    gateway: Gateway,
    request: Request,
    job_id: str,
    n: int,
    *,
    grant: str | None,
    expires: int | None,
    signature: str | None,
    name: str | None,
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
        job_id, n, name, expires=expires, signature=signature, at=gateway.clock.now()
    ):
        raise InvalidSignatureError
    return await gateway.jobs.get_signed(job_id)
