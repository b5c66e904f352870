"""/v1/webhook-secret: it signs the webhooks sent to the URLs that a caller's jobs name."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from app.api.body import BODY_PROBLEMS, CreateBody, body_of, parse
from app.api.deps import Gateway, OptionalJsonBody, caller
from app.api.problems import problem_responses
from app.api.routing import caller_router
from app.auth.models import Principal
from app.auth.scopes import Scope
from app.core.owners import owner_of
from app.jobs.wire import Instant
from app.webhooks.errors import SecretOfServiceError, SecretUnreadableError
from app.webhooks.models import Secret

router = caller_router("/v1", tag="webhooks")

_LONGEST_OVERLAP_S = 7 * 86_400

Receiver = Annotated[Principal, Depends(caller(Scope.WEBHOOKS))]


class Rotate(CreateBody):
    model_config = ConfigDict(extra="forbid")

    overlap_seconds: Annotated[int, Field(strict=True, ge=0, le=_LONGEST_OVERLAP_S)] = Field(
        default=86_400,
        description="How long the current secret also signs; 0 ends it at once.",
    )


class SecretRead(BaseModel):
    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str
    previous_secret_expires_at: Instant | None = Field(
        description="When the secret before the last rotation stops, or stopped, signing."
    )


@router.get(
    "/webhook-secret",
    summary="Read the secret that signs the webhooks of your jobs",
    description="It is created when first needed. A service that acts for its users reads its own,"
    " which signs for their jobs.",
    responses=problem_responses(SecretOfServiceError, SecretUnreadableError),
)
async def get_webhook_secret(gateway: Gateway, caller: Receiver) -> SecretRead:
    return _secret(await gateway.webhooks.secret(_signer(caller)))


@router.post(
    "/webhook-secret/rotate",
    summary="Replace the secret that signs the webhooks of your jobs",
    description=(
        "For `overlap_seconds` each message carries signatures by both secrets; any older secret "
        "stops signing."
    ),
    openapi_extra=body_of(Rotate, required=False),
    responses=problem_responses(*BODY_PROBLEMS, SecretOfServiceError),
)
async def rotate_webhook_secret(
    gateway: Gateway, caller: Receiver, body: OptionalJsonBody
) -> SecretRead:
    return _secret(await gateway.webhooks.rotate_secret(_signer(caller), overlap=overlap_of(body)))


def _signer(caller: Principal) -> str:
    """Return whose secret signs for the caller's jobs, if the caller may see it."""
    signer = owner_of(caller.user_id)
    # Only a service's own key can act for its users; theirs never have the scope.
    if signer != caller.user_id and Scope.ACT_AS not in caller.scopes:
        raise SecretOfServiceError
    return signer


def _secret(secret: Secret) -> SecretRead:
    return SecretRead(secret=secret.secret, previous_secret_expires_at=secret.previous_expires_at)


def overlap_of(body: Any) -> timedelta:
    return timedelta(seconds=parse(Rotate, body).overlap_seconds)
