"""What routes depend on: the services, who is calling, and what was sent."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from pydantic import SecretStr

from app.api.described import Described
from app.api.json_body import json_body, optional_json_body
from app.api.problems import InvalidParameterError
from app.audit.log import AuditTrail
from app.auth.client_tokens.service import ClientTokens
from app.auth.directory.keys import KeyDirectory
from app.auth.directory.plans import PlanDirectory
from app.auth.directory.users import UserDirectory
from app.auth.errors import (
    InvalidUserIdError,
    MissingScopeError,
    UserDisabledError,
    WrongOriginError,
)
from app.auth.models import Holder, PageOrigin, Principal
from app.auth.oidc.errors import IdentityProviderUnavailableError, UnknownPlanClaimError
from app.auth.operators import OperatorGate
from app.auth.scopes import Scope
from app.auth.service import AuthService
from app.catalogue.service import Catalogue
from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError, ProblemError, UnauthenticatedError
from app.events.hub import Hub
from app.jobs.errors import JobNotFoundError
from app.jobs.feed import JobFeed
from app.jobs.intake import JobIntake
from app.jobs.links import JobLinks
from app.jobs.operations.health import HealthService
from app.jobs.operations.metrics_page import MetricsPage
from app.jobs.operations.operator import OperatorJobs
from app.jobs.operations.overview import JobOverview
from app.jobs.operations.traffic import JobTraffic
from app.jobs.service import JobService
from app.jobs.wire import JobWire
from app.quotas.prices import PricesService
from app.quotas.service import QuotaService
from app.quotas.shadow import ShadowFindings
from app.storage.archive import Archive
from app.storage.files import FileService
from app.storage.links import FileLinks
from app.storage.uploads import Uploads
from app.upstream.outputs import OutputClient
from app.webhooks.service import WebhookService

_NAMING_A_JOB = ("job_id", "request_id")
_VISIBLE_ASCII = re.compile(r"[!-~]{1,255}")

bearer = HTTPBearer(
    auto_error=False,
    bearerFormat="rcg_...",
    description="An API key of this gateway, a client token, or a token of its OIDC issuer.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the edge needs; bootstrap puts it together.

    `base_path` is the prefix that clients put before our paths: empty, unless a proxy strips one.

    `closing` is set as soon as the process is told to stop, before the server waits for open
    requests; slow answers (streams, long polls) watch for it and end.
    """

    audit: AuditTrail
    auth: AuthService
    base_path: str
    catalogue: Catalogue
    client_tokens: ClientTokens
    clock: Clock
    archive: Archive
    files: FileService
    file_links: FileLinks
    metrics_page: MetricsPage
    closing: asyncio.Event
    feed: JobFeed
    health: HealthService
    hub: Hub[Holder]
    intake: JobIntake
    jobs: JobService
    keys: KeyDirectory
    links: JobLinks
    metrics_token: SecretStr | None
    operators: OperatorGate
    outputs: OutputClient
    operator_jobs: OperatorJobs
    overview: JobOverview
    quotas: QuotaService
    plans: PlanDirectory
    prices: PricesService
    shadow: ShadowFindings
    traffic: JobTraffic
    uploads: Uploads
    users: UserDirectory
    webhooks: WebhookService
    wire: JobWire


class OneJobOnlyError(ProblemError):
    code = "one_job_only"
    title = "The token may read one job"
    status = 403

    def __init__(self) -> None:
        super().__init__(
            "This client token may read one job: its state, events and outputs. Use another"
            " credential for this call."
        )


CALLER_PROBLEMS = (
    UnauthenticatedError,
    MissingScopeError,
    UserDisabledError,
    WrongOriginError,
    OneJobOnlyError,
    InvalidUserIdError,
    DatabaseUnavailableError,
    IdentityProviderUnavailableError,
    UnknownPlanClaimError,
)
"""The problems that any call with a caller can meet."""


# A coroutine, since the framework runs other dependencies in its thread pool.
async def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Gateway = Annotated[Services, Depends(services_of)]


def header_of(request: Request, name: str) -> str | None:
    """Join all lines of a header into one value (RFC 9110, 5.3)."""
    return ", ".join(request.headers.getlist(name)) or None


CREDENTIALS = Described({"X-Gateway-User": "Act for this user of your service."}, scheme=bearer)


def caller(needed: Scope | None = None) -> Callable[..., Awaitable[Principal]]:
    """Make the dependency that authenticates, and refuses a caller without the `needed` scope."""

    @CREDENTIALS
    async def authenticate(request: Request) -> Principal:
        gateway: Services = request.app.state.services
        sender = await gateway.auth.authenticate(
            header_of(request, "Authorization"),
            came_from=PageOrigin(
                origin=header_of(request, "Origin"),
                is_same_origin=header_of(request, "Sec-Fetch-Site") == "same-origin",
            ),
        )
        # From here on answers carry limits: the sender's, unless it acts for another user.
        request.state.principal = principal = sender.principal
        name = _acting_for(request)
        if name is not None:
            try:
                request.state.principal = principal = await gateway.auth.act(sender, name=name)
            except InvalidUserIdError as exc:
                raise InvalidUserIdError(exc.detail, parameter="X-Gateway-User") from exc
        if needed is not None and needed not in principal.scopes:
            raise MissingScopeError(needed)
        _check_job(principal, request)
        return principal

    return authenticate


def _check_job(principal: Principal, request: Request) -> None:
    """Refuse a token for one job on every call that does not name that job."""
    if principal.job_id is None:
        return
    named = [request.path_params[name] for name in _NAMING_A_JOB if name in request.path_params]
    if not named:
        raise OneJobOnlyError
    if named != [principal.job_id]:
        raise JobNotFoundError(str(named[0]))


def _acting_for(request: Request) -> str | None:
    """Return the id in X-Gateway-User; an empty one is invalid; it never means the key's owner."""
    if "X-Gateway-User" not in request.headers:
        return None
    return header_of(request, "X-Gateway-User") or ""


AnyCaller = Annotated[Principal, Depends(caller())]
Reader = Annotated[Principal, Depends(caller(Scope.JOBS_READ))]
Writer = Annotated[Principal, Depends(caller(Scope.JOBS_WRITE))]

JsonBody = Annotated[Any, Depends(json_body)]
OptionalJsonBody = Annotated[Any, Depends(optional_json_body)]


@Described(
    {
        "Idempotency-Key": "1 to 255 visible ASCII characters; the same key and body within 24"
        " hours give the same job."
    }
)
async def idempotency_key(request: Request) -> str | None:
    if "Idempotency-Key" not in request.headers:
        return None
    key = header_of(request, "Idempotency-Key") or ""
    if not _VISIBLE_ASCII.fullmatch(key):
        raise InvalidParameterError(
            "Idempotency-Key",
            "The header Idempotency-Key must be 1 to 255 visible ASCII characters.",
        )
    return key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
