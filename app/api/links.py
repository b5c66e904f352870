"""Signed links in place of a credential: whom they stand for, and when they are invalid."""

from typing import Annotated

from fastapi import Query, Request

from app.api.deps import Gateway
from app.auth.errors import MissingScopeError
from app.auth.models import Principal
from app.auth.scopes import Scope
from app.core.errors import UnauthenticatedError
from app.jobs.links import LinkClaim

Grant = Annotated[
    str | None, Query(max_length=64, description="The client token that the link was signed for.")
]
Expires = Annotated[int | None, Query(ge=0, le=2**40)]
Signature = Annotated[str | None, Query(max_length=64)]


class InvalidSignatureError(UnauthenticatedError):
    code = "invalid_signature"
    title = "The link is invalid or has expired"

    def __init__(self) -> None:
        super().__init__(
            "The link is invalid or has expired; read the job or the file again for a new one,"
            " or make another client token."
        )


async def holder_of_link(
    gateway: Gateway, request: Request, claim: LinkClaim, *, job_id: str, path: str
) -> Principal:
    """Return whom a link to a path below a job stands for, or raise InvalidSignatureError.

    The client token it was signed for must be live and still allowed to read; otherwise this
    raises UnauthenticatedError or MissingScopeError.
    """
    if not gateway.links.is_genuine(claim, job_id=job_id, path=path, at=gateway.clock.now()):
        raise InvalidSignatureError
    principal = await gateway.auth.holder_of_link(claim.grant)
    request.state.principal = principal
    if Scope.JOBS_READ not in principal.scopes:
        raise MissingScopeError(Scope.JOBS_READ)
    return principal
