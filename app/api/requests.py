"""RunComfy's own calls on jobs: submit, status, result, cancel; a request is a job of ours."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from app.api import runcomfy
from app.api.deps import CALLER_PROBLEMS, Gateway, IdempotencyKey, JsonBody, Reader, Writer
from app.api.routing import Router
from app.api.submitting import SUBMIT_PROBLEMS, accept
from app.core.errors import FieldError, InvalidRequestError
from app.jobs.errors import JobNotFoundError, NotCancellableError
from app.jobs.intake import JobRequest
from app.jobs.models import Job, Priority
from app.jobs.state import Status
from app.jobs.wire import Instant, JobRead

router = Router(
    prefix="/v1", tags=["requests"], responses=runcomfy.error_responses(*CALLER_PROBLEMS)
)

StatusWord = Literal["in_queue", "in_progress", "completed", "cancelled"]
ResultWord = Literal["in_queue", "in_progress", "succeeded", "failed", "cancelled"]
CancelWord = Literal["cancelled", "not_cancellable", "cancellation_requested"]

# What `/status` and `/result` call each state. Only the result says how a job ended; to a client
# `submit_unknown` is still in progress.
_WORDS: Mapping[Status, tuple[StatusWord, ResultWord]] = {
    "pending": ("in_queue", "in_queue"),
    "in_queue": ("in_queue", "in_queue"),
    "in_progress": ("in_progress", "in_progress"),
    "submit_unknown": ("in_progress", "in_progress"),
    "completed": ("completed", "succeeded"),
    "failed": ("completed", "failed"),
    "cancelled": ("cancelled", "cancelled"),
}


class RequestCreated(BaseModel):
    request_id: str
    status_url: str
    result_url: str
    cancel_url: str


class RequestStatusRead(BaseModel):
    request_id: str
    status: StatusWord = Field(description="`completed` means that it ended, not how.")
    queue_position: int | None = Field(
        default=None,
        description=(
            "While it is `in_queue`: first the place here, then at RunComfy; 0 until RunComfy "
            "reports one."
        ),
    )
    status_url: str
    result_url: str


class RequestErrorRead(BaseModel):
    type: str
    message: str


class RequestResultRead(BaseModel):
    request_id: str
    status: ResultWord
    output: dict[str, str | list[str]] | None = Field(
        default=None, description="Signed URLs of this gateway, which need no token."
    )
    error: RequestErrorRead | None = None
    cost: float | None = Field(default=None, description="US dollars; with `include_cost`.")
    created_at: Instant
    finished_at: Instant | None = None


class RequestCancelRead(BaseModel):
    request_id: str
    status: StatusWord
    outcome: CancelWord


@router.post(
    "/models/{model_id:path}",
    summary="Submit a request in RunComfy's format",
    description="The body is the model's input alone. The request becomes a job, with the same id.",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {
                        "prompt": "the camera drifts forward",
                        "first_frame_image_url": "https://example.com/a.png",
                        "duration": 5,
                    },
                }
            },
        }
    },
    responses=runcomfy.error_responses(*SUBMIT_PROBLEMS),
)
async def submit_request(
    gateway: Gateway,
    caller: Writer,
    model_id: str,
    key: IdempotencyKey,
    body: JsonBody,
    request: Request,
    response: Response,
) -> RequestCreated:
    accepted = await accept(
        gateway,
        caller,
        request,
        lambda: _request(model_id, body),
        idempotency_key=key,
        route=f"POST /v1/models/{model_id}",
        body=body,
    )
    if accepted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    links = _links(gateway, accepted.job.id, "status", "result", "cancel")
    return RequestCreated(request_id=accepted.job.id, **links)


@router.get(
    "/requests/{request_id}/status",
    summary="Read a request's status",
    response_model_exclude_none=True,
    responses=runcomfy.error_responses(JobNotFoundError),
)
async def get_request_status(
    gateway: Gateway, caller: Reader, request_id: str
) -> RequestStatusRead:
    job = _read(gateway, await gateway.jobs.get(request_id, user_id=caller.user_id))
    status, _ = _WORDS[job.status]
    position = job.pending_position if job.status == "pending" else job.queue_position
    return RequestStatusRead(
        request_id=job.id,
        status=status,
        # RunComfy documents a number here, and clients read it before the first poll.
        queue_position=(position or 0) if status == "in_queue" else None,
        **_links(gateway, job.id, "status", "result"),
    )


@router.get(
    "/requests/{request_id}/result",
    summary="Read a request's result",
    response_model_exclude_none=True,
    responses=runcomfy.error_responses(JobNotFoundError),
)
async def get_request_result(
    gateway: Gateway,
    caller: Reader,
    request_id: str,
    *,
    include_cost: Annotated[bool, Query()] = False,
) -> RequestResultRead:
    job = _read(gateway, await gateway.jobs.get(request_id, user_id=caller.user_id))
    _, status = _WORDS[job.status]
    error = job.error if status == "failed" else None  # RunComfy sends none in other states
    return RequestResultRead(
        request_id=job.id,
        status=status,
        output=job.output,
        error=None if error is None else RequestErrorRead(type=error.code, message=error.message),
        cost=_cost(job) if include_cost else None,
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


@router.post(
    "/requests/{request_id}/cancel",
    status_code=202,
    summary="Cancel a request",
    description=(
        "`outcome` says what happened. `cancellation_requested`: RunComfy has not answered yet; "
        "the gateway keeps trying."
    ),
    responses=runcomfy.error_responses(JobNotFoundError),
)
async def cancel_request(gateway: Gateway, caller: Writer, request_id: str) -> RequestCancelRead:
    outcome: CancelWord
    try:
        # RunComfy's clients know no job that is still being sent, so wait until it was.
        answer, job = await gateway.jobs.cancel(
            request_id, user_id=caller.user_id, awaits_submit=True
        )
        outcome = "cancellation_requested" if answer == "cancel_requested" else "cancelled"
    except NotCancellableError:
        job = await gateway.jobs.get(request_id, user_id=caller.user_id)
        outcome = "not_cancellable"
    status, _ = _WORDS[job.state.status]
    return RequestCancelRead(request_id=job.id, status=status, outcome=outcome)


def _request(model_id: str, body: Any) -> JobRequest:
    if not isinstance(body, dict):
        detail = "The body must be an object: the input that the model's `input_schema` asks for."
        error = FieldError(pointer="", code="type", detail=detail)
        raise InvalidRequestError(detail, errors=[error])
    return JobRequest(
        model=model_id, input=body, metadata={}, priority=Priority.NORMAL, start_within=None
    )


def _read(gateway: Gateway, job: Job) -> JobRead:
    return gateway.wire.read(job, at=gateway.clock.now())


def _links(gateway: Gateway, job_id: str, *calls: str) -> dict[str, str]:
    return {f"{call}_url": gateway.wire.request_url(job_id, call) for call in calls}


def _cost(job: JobRead) -> float | None:
    """Return what the job was charged once that is certain; None where no price was known."""
    if job.cost.state == "released":
        return 0.0
    if job.cost.state != "settled" or job.cost.amount_usd is None:
        return None
    return float(job.cost.amount_usd)
