"""A submit in either shape: a new job, or the one that its idempotency key already made."""

from collections.abc import Callable
from typing import Any

import structlog
from fastapi import Request

from app.api.body import BODY_PROBLEMS
from app.api.deps import Gateway
from app.api.problems import InvalidParameterError
from app.auth.errors import ModelNotAllowedError
from app.auth.models import Principal
from app.catalogue.errors import UnknownModelError
from app.jobs.batch import Accepted
from app.jobs.errors import IdempotencyConflictError, InvalidInputError
from app.jobs.fingerprint import fingerprint
from app.jobs.intake import JobRequest
from app.media.errors import MediaBusyError, MediaUnreachableError
from app.quotas.errors import DurationUnknownError, PriceUnknownError, QuotaExceededError

CHECK_PROBLEMS = (
    *BODY_PROBLEMS,
    InvalidInputError,
    MediaUnreachableError,
    MediaBusyError,
    UnknownModelError,
    ModelNotAllowedError,
    PriceUnknownError,
    DurationUnknownError,
    QuotaExceededError,
)
"""The problems that a job's description can have, whether or not a job is made from it."""

SUBMIT_PROBLEMS = (*CHECK_PROBLEMS, InvalidParameterError, IdempotencyConflictError)

logger = structlog.get_logger(__name__)


async def accept(
    gateway: Gateway,
    principal: Principal,
    request: Request,
    make: Callable[[], JobRequest],
    *,
    idempotency_key: str | None,
    route: str,
    body: Any,
) -> Accepted:
    """Look the key up before `make` reads the request, so that a replay is not checked again."""
    identity = ""
    if idempotency_key is not None:
        identity = fingerprint(route, body)
        replay = await gateway.intake.find_replay(
            user_id=principal.user_id, idempotency_key=idempotency_key, fingerprint=identity
        )
        if replay is not None:
            return replay
    accepted = await gateway.intake.submit(
        make(), principal=principal, idempotency_key=idempotency_key, fingerprint=identity
    )
    request.state.standings = accepted.standings  # for the headers of the answer
    if not accepted.replayed:
        # Ties the request to its job: workers write nearly all later lines, and know no request.
        logger.info("job.accepted", job_id=accepted.job.id)
    return accepted
