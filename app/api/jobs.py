"""/v1/jobs: submit, check, list, read, cancel and erase."""

from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.api.body import CreateBody, parse
from app.api.conditions import CONDITION, caller_has
from app.api.deps import Gateway, IdempotencyKey, JsonBody, Reader, Writer
from app.api.described import Described
from app.api.job_filters import BY_METADATA, Filter, JobPage
from app.api.limits import LimitRead, read_limits
from app.api.paging import Listed
from app.api.prefer import PreferredWait, place_to_wait, set_preference_applied, wait_for
from app.api.problems import FieldErrorRead, problem_responses
from app.api.routing import caller_router
from app.api.submitting import CHECK_PROBLEMS, SUBMIT_PROBLEMS, accept
from app.auth.models import Principal
from app.auth.scopes import Scope
from app.catalogue.errors import UnknownModelError
from app.core.errors import FieldError, UnauthenticatedError
from app.events.hub import TooManyStreamsError
from app.jobs.errors import JobNotFinalError, JobNotFoundError, NotCancellableError
from app.jobs.intake import JobRequest
from app.jobs.models import Job, Priority
from app.jobs.service import CancelOutcome
from app.jobs.state import TERMINAL
from app.jobs.wire import JobCostRead, JobRead
from app.quotas.numbers import shown_usd
from app.webhooks.addresses import MAX_URL_CHARACTERS

router = caller_router("/v1/jobs", tag="jobs")


class JobCreate(CreateBody):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "model": "bytedance/seedance-1-0/pro/image-to-video",
                "input": {
                    "prompt": "the camera drifts forward",
                    "first_frame_image_url": "https://example.com/a.png",
                    "duration": 5,
                },
                "metadata": {"order": "4711"},
            }
        },
    )

    model: Annotated[str, StringConstraints(max_length=256)] = Field(
        description="A `model_id` of GET /v1/models."
    )
    input: dict[str, Any] = Field(description="As the model's `input_schema` describes.")
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(max_length=40)],
            Annotated[str, StringConstraints(max_length=500)],
        ],
        Field(max_length=50),
    ] = Field(default={}, description="Your own data, for finding jobs: at most 50 keys.")

    webhook_url: Annotated[str, StringConstraints(max_length=MAX_URL_CHARACTERS)] | None = Field(
        default=None,
        description=(
            "Called when the job completes, fails, is cancelled or becomes `submit_unknown`; "
            "signed with the secret from GET /v1/webhook-secret."
        ),
    )
    priority: Literal["high", "normal", "low"] = Field(
        default="normal", description="Which of your own waiting jobs starts first."
    )
    start_within_seconds: Annotated[int, Field(strict=True, ge=1, le=30 * 86_400)] | None = Field(
        default=None,
        description="Cancel the job if it is not in progress by then, with `not_started_in_time` as"
        " its `error`.",
    )


class JobList(Listed[JobRead]):
    pass


class JobCheck(BaseModel):
    valid: bool
    errors: list[FieldErrorRead]
    input: dict[str, Any]
    cost: JobCostRead
    limits: list[LimitRead]


class JobCancel(BaseModel):
    outcome: CancelOutcome
    job: JobRead


_JOB_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobCreate"}}},
    }
}


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    description=(
        "202 means that the job is durable. If the Idempotency-Key already made a job from the "
        "same body, the answer is 200 with that job and `Idempotency-Replayed: true`. With "
        "`Prefer: wait=N` the answer comes when the job is final, and is then 200."
    ),
    openapi_extra=_JOB_BODY,
    responses={
        200: {
            "model": JobRead,
            "description": "The final job, or the one that this key already made.",
        },
        **problem_responses(*SUBMIT_PROBLEMS, TooManyStreamsError),
    },
)
async def submit_job(
    gateway: Gateway,
    caller: Writer,
    key: IdempotencyKey,
    body: JsonBody,
    wait: PreferredWait,
    request: Request,
    response: Response,
) -> JobRead:
    with place_to_wait(gateway, caller, wait) as refusal:

        def make() -> JobRequest:
            if refusal is not None:  # only after the key was looked up: a replay meets no limit
                raise refusal
            return _request(parse(JobCreate, body))

        accepted = await accept(
            gateway, caller, request, make, idempotency_key=key, route="POST /v1/jobs", body=body
        )
        job = accepted.job
        if wait is not None and refusal is None:
            # A caller that may no longer wait, or whose job was erased, still learns that its
            # submit was accepted: otherwise it might send it twice.
            with suppress(UnauthenticatedError, JobNotFoundError):
                job = await wait_for(
                    gateway,
                    request,
                    job,
                    holder=caller.holder(Scope.JOBS_WRITE),
                    until=_is_final,
                    at_most=wait,
                )
            request.state.standings = None  # out of date after the wait
            set_preference_applied(response, wait)
    if wait is not None and _is_final(job):
        response.status_code = 200
    response.headers["Location"] = f"{gateway.base_path}/v1/jobs/{accepted.job.id}"
    if accepted.replayed:
        response.status_code = 200
        response.headers["Idempotency-Replayed"] = "true"
    return _read(gateway, job)


@router.post(
    "/validate",
    summary="Check a job without submitting it",
    description="Nothing is held and nothing is sent.",
    openapi_extra=_JOB_BODY,
    responses=problem_responses(*CHECK_PROBLEMS),
)
async def validate_job(gateway: Gateway, caller: Writer, body: JsonBody) -> JobCheck:
    request = _request(parse(JobCreate, body))
    try:
        preview = await gateway.intake.preview(request, principal=caller)
    except UnknownModelError as exc:
        return JobCheck(
            valid=False,
            errors=_errors(exc.errors),
            input=dict(request.input),
            cost=JobCostRead(amount_usd=None, output_seconds=None, state="none"),
            limits=[],
        )
    return JobCheck(
        valid=not preview.checked.errors,
        errors=_errors(preview.checked.errors),
        input=preview.checked.input,
        cost=JobCostRead(
            amount_usd=None if preview.price_usd is None else shown_usd(preview.price_usd),
            output_seconds=preview.checked.output_seconds,
            state="none",
        ),
        limits=read_limits(preview.standings),
    )


@router.get(
    "",
    summary="List your jobs, newest first",
    description=(
        "Filters are `status` (comma-separated), `model`, `created_after`, `created_before` and "
        "`metadata[<key>]`; others are refused. Pages are stable while jobs are added. One of long "
        "jobs may have fewer than `limit`: `next_cursor` tells whether there are more."
    ),
    openapi_extra=BY_METADATA,
)
async def list_jobs(gateway: Gateway, caller: Reader, matching: Filter, page: JobPage) -> JobList:
    jobs = await gateway.jobs.page(
        user_id=caller.user_id, matching=matching, before=page.cursor, limit=page.to_read
    )
    read = partial(_read, gateway)
    return JobList.of(jobs, page, read=read, length_of=JobRead.length)


@router.get(
    "/{job_id}",
    response_model=JobRead,
    summary="Read a job",
    description="With `If-None-Match` the answer is 304 until something changes. With"
    " `Prefer: wait=N` it comes at the next change of state, or at once if the tag is out of date"
    " or the job is final.",
    responses={
        304: {"description": "Not changed."},
        **problem_responses(JobNotFoundError, TooManyStreamsError),
    },
)
@Described(CONDITION)
async def get_job(
    gateway: Gateway,
    caller: Reader,
    job_id: str,
    wait: PreferredWait,
    request: Request,
    response: Response,
) -> Any:
    job = await gateway.jobs.get(job_id, user_id=caller.user_id)
    if wait is not None:
        job = await _changed(gateway, caller, request, job, at_most=wait)
        set_preference_applied(response, wait)
    at = gateway.clock.now()
    etag = gateway.wire.etag(job, at=at)
    response.headers["ETag"] = etag
    if caller_has(request, etag):
        return Response(status_code=304, headers=response.headers)
    return gateway.wire.read(job, at=at)


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    description=(
        "`cancelled_locally` is free and certain; `cancelled_upstream` was granted by RunComfy. "
        "202 `cancel_requested`: no answer yet; the gateway keeps trying."
    ),
    responses={
        202: {"model": JobCancel, "description": "Requested; the gateway keeps trying."},
        **problem_responses(JobNotFoundError, NotCancellableError),
    },
)
async def cancel_job(
    gateway: Gateway, caller: Writer, job_id: str, response: Response
) -> JobCancel:
    outcome, job = await gateway.jobs.cancel(job_id, user_id=caller.user_id)
    if outcome == "cancel_requested":
        response.status_code = 202
    return JobCancel(outcome=outcome, job=_read(gateway, job))


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Erase a job",
    description="Its input and outputs are deleted at once; its cost stays in your usage.",
    responses=problem_responses(JobNotFoundError, JobNotFinalError),
)
async def erase_job(gateway: Gateway, caller: Writer, job_id: str) -> None:
    await gateway.jobs.erase(job_id, user_id=caller.user_id)


async def _changed(
    gateway: Gateway, caller: Principal, request: Request, job: Job, *, at_most: timedelta
) -> Job:
    """Return at once if the caller's ETag is out of date, else wait for a change of state."""
    etag = gateway.wire.etag(job, at=gateway.clock.now())
    is_outdated = "If-None-Match" in request.headers and not caller_has(request, etag)
    if is_outdated or _is_final(job):
        return job
    with gateway.hub.place(caller.user_id):
        return await wait_for(
            gateway,
            request,
            job,
            holder=caller.holder(Scope.JOBS_READ),
            until=lambda later: later.state.status != job.state.status,
            at_most=at_most,
        )


def _is_final(job: Job) -> bool:
    return job.state in TERMINAL


def _request(create: JobCreate) -> JobRequest:
    seconds = create.start_within_seconds
    return JobRequest(
        model=create.model,
        input=create.input,
        metadata=create.metadata,
        priority=Priority[create.priority.upper()],
        start_within=None if seconds is None else timedelta(seconds=seconds),
        webhook_url=create.webhook_url,
    )


def _read(gateway: Gateway, job: Job) -> JobRead:
    return gateway.wire.read(job, at=gateway.clock.now())


def _errors(errors: list[FieldError]) -> list[FieldErrorRead]:
    return [FieldErrorRead(**asdict(error)) for error in errors]
