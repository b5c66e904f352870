"""/v1/admin/jobs: all users' jobs with their internals, and what can be done for stuck ones."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field, StringConstraints

from app.api.admin.auth import Operator
from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminBody, AdminRead
from app.api.body import BODY_PROBLEMS, body_of, parse
from app.api.deps import Gateway, JsonBody
from app.api.job_filters import BY_METADATA, AdminFilter, JobPage
from app.api.paging import Listed
from app.api.problems import problem_responses
from app.jobs.errors import JobNotFoundError, RequestTakenError, WrongStateError
from app.jobs.models import CostState, Job
from app.jobs.operations.operator import JobDetail
from app.jobs.operations.repository import Internals
from app.jobs.wire import Instant, JobRead, Seconds
from app.quotas.entries import Entry
from app.quotas.numbers import shown_usd
from app.quotas.policy import Measure, from_units

router = admin_router("/jobs")

_ACT_PROBLEMS = problem_responses(JobNotFoundError, WrongStateError)


class AdminJobRead(JobRead):
    """A job as its owner sees it, with its internals."""

    user: str
    schema_hash: str = Field(
        description="Identifies the model's schema that the input was validated against."
    )
    upstream_request_id: str | None
    reported_cost_usd: str | None = Field(
        description=(
            "The cost that RunComfy reported, which may differ from the charge; null if it "
            "reported none."
        )
    )
    account: str | None = Field(
        description="Name, in the settings, of the RunComfy account it was last sent with."
    )
    attempts: int
    due_at: Instant | None
    lease_expires_at: Instant | None


class LedgerEntryRead(BaseModel):
    kind: Literal["hold", "settle", "release", "late_charge"]
    at: Instant
    amount_usd: str | None
    output_seconds: Seconds | None


class JobEventRead(AdminRead):
    seq: int
    type: str
    at: Instant
    data: dict[str, Any] | None


class AdminJobDetail(AdminJobRead):
    ledger: list[LedgerEntryRead]
    events: list[JobEventRead]


class AdminJobList(Listed[AdminJobRead]):
    pass


class Adoption(AdminBody):
    request_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class ActRead(BaseModel):
    """What happened to the hold, and the job afterwards."""

    hold: CostState
    job: AdminJobDetail


@router.get("", summary="List all users' jobs, newest first", openapi_extra=BY_METADATA)
async def list_all_jobs(
    gateway: Gateway,
    matching: AdminFilter,
    page: JobPage,
    user: Annotated[str | None, Query(max_length=300)] = None,
) -> AdminJobList:
    jobs = await gateway.operator_jobs.page(
        user_id=user, matching=matching, before=page.cursor, limit=page.to_read
    )
    return AdminJobList.of(
        jobs,
        page,
        id_of=lambda found: found[0].id,
        read=lambda found: _read(gateway, *found),
        length_of=AdminJobRead.length,
    )


@router.get(
    "/{job_id}",
    summary="Read a job with its ledger entries and events",
    responses=problem_responses(JobNotFoundError),
)
async def read_any_job(gateway: Gateway, job_id: str) -> AdminJobDetail:
    return _detail(gateway, await gateway.operator_jobs.get(job_id))


@router.post("/{job_id}/poll", summary="Poll the job now", responses=_ACT_PROBLEMS)
async def poll_job(gateway: Gateway, job_id: str, actor: Operator) -> ActRead:
    return await _done(gateway, job_id, await gateway.operator_jobs.poll(job_id, actor=actor))


@router.post(
    "/{job_id}/adopt",
    summary="Attach the RunComfy request found for this job",
    description="For `submit_unknown` jobs; the hold stays until the job ends.",
    openapi_extra=body_of(Adoption),
    responses=problem_responses(
        JobNotFoundError, WrongStateError, RequestTakenError, *BODY_PROBLEMS
    ),
)
async def adopt_job(gateway: Gateway, job_id: str, actor: Operator, body: JsonBody) -> ActRead:
    request_id = parse(Adoption, body).request_id
    hold = await gateway.operator_jobs.adopt(job_id, request_id=request_id, actor=actor)
    return await _done(gateway, job_id, hold)


@router.post(
    "/{job_id}/settle", summary="Fail the job and charge its hold", responses=_ACT_PROBLEMS
)
async def settle_job(gateway: Gateway, job_id: str, actor: Operator) -> ActRead:
    return await _done(gateway, job_id, await gateway.operator_jobs.settle(job_id, actor=actor))


@router.post("/{job_id}/release", summary="Fail the job and free its hold", responses=_ACT_PROBLEMS)
async def release_job(gateway: Gateway, job_id: str, actor: Operator) -> ActRead:
    return await _done(gateway, job_id, await gateway.operator_jobs.release(job_id, actor=actor))


@router.post(
    "/{job_id}/resubmit",
    summary="Send a job again that RunComfy never received",
    description=(
        "For `submit_unknown` jobs: the operator vouches that RunComfy has no request for it."
    ),
    responses=_ACT_PROBLEMS,
)
async def resubmit_job(gateway: Gateway, job_id: str, actor: Operator) -> ActRead:
    return await _done(gateway, job_id, await gateway.operator_jobs.resubmit(job_id, actor=actor))


@router.post(
    "/{job_id}/fail",
    summary="Fail the job and free its hold, even if it is waiting",
    responses=_ACT_PROBLEMS,
)
async def fail_job(gateway: Gateway, job_id: str, actor: Operator) -> ActRead:
    return await _done(gateway, job_id, await gateway.operator_jobs.fail(job_id, actor=actor))


async def _done(gateway: Gateway, job_id: str, hold: CostState) -> ActRead:
    return ActRead(hold=hold, job=_detail(gateway, await gateway.operator_jobs.get(job_id)))


def _detail(gateway: Gateway, detail: JobDetail) -> AdminJobDetail:
    return AdminJobDetail(
        **dict(_read(gateway, detail.job, detail.internals)),
        ledger=[_entry(entry) for entry in detail.ledger],
        events=[JobEventRead.model_validate(event) for event in detail.events],
    )


def _read(gateway: Gateway, job: Job, internals: Internals) -> AdminJobRead:
    reported = internals.reported_cost_usd
    return AdminJobRead(
        **dict(gateway.wire.read(job, at=gateway.clock.now())),
        user=job.user_id,
        schema_hash=job.schema_hash,
        upstream_request_id=internals.upstream_request_id,
        reported_cost_usd=None if reported is None else shown_usd(reported),
        account=internals.account,
        attempts=internals.attempts,
        due_at=internals.due_at,
        lease_expires_at=internals.lease_expires_at,
    )


def _entry(entry: Entry) -> LedgerEntryRead:
    milliseconds = entry.amounts.get(Measure.MILLISECONDS)
    micro_usd = entry.amounts.get(Measure.MICRO_USD)
    return LedgerEntryRead(
        kind=entry.kind.value,
        at=entry.at,
        amount_usd=(
            None if micro_usd is None else shown_usd(from_units(Measure.MICRO_USD, micro_usd))
        ),
        output_seconds=(
            None if milliseconds is None else from_units(Measure.MILLISECONDS, milliseconds)
        ),
    )
