"""/v1/admin/plans: sets of limits, in a time zone, for certain models."""

from typing import Annotated, Literal

from fastapi import Depends, Response
from pydantic import Field

from app.api.admin.auth import Operator
from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminBody, AdminRead, LimitsBody, LimitsRead
from app.api.body import BODY_PROBLEMS, CreateBody, body_of, parse
from app.api.deps import Gateway, JsonBody
from app.api.paging import Listed, Page, page_query
from app.api.problems import problem_responses
from app.auth.directory.checks import is_plan_name
from app.auth.directory.errors import PlanExistsError, PlanInUseError, PlanNotFoundError
from app.jobs.wire import Instant

router = admin_router("/plans")

_Models = Annotated[
    list[str] | None, Field(max_length=1000, description="The models it allows; null: every model.")
]


class PlanPatch(AdminBody):
    timezone: str = Field(
        default="UTC", description="Time zone of the plan's days and months, as an IANA name."
    )
    default: bool = Field(default=False, description="Whether it applies to users without a plan.")
    models: _Models = None
    limits: LimitsBody = Field(default={})


class PlanCreate(CreateBody, PlanPatch):
    name: str = Field(description="1 to 64 of letters, digits and . _ -")


class PlanRead(AdminRead):
    object: Literal["plan"] = "plan"
    name: str
    timezone: str
    default: bool
    models: list[str] | None
    limits: LimitsRead
    created_at: Instant


class PlanList(Listed[PlanRead]):
    pass


@router.post(
    "",
    status_code=201,
    summary="Create a plan",
    description="With `default` it replaces the current default plan.",
    openapi_extra=body_of(PlanCreate),
    responses=problem_responses(*BODY_PROBLEMS, PlanExistsError),
)
async def create_plan(
    gateway: Gateway, operator: Operator, body: JsonBody, response: Response
) -> PlanRead:
    asked = parse(PlanCreate, body)
    changes = asked.changes(without="name")
    plan = await gateway.plans.create(asked.name, changes, actor=operator)
    response.headers["Location"] = f"{gateway.base_path}/v1/admin/plans/{plan.name}"
    return PlanRead.model_validate(plan)


@router.get("", summary="List plans by name")
async def list_plans(
    gateway: Gateway, page: Annotated[Page, Depends(page_query(is_cursor=is_plan_name))]
) -> PlanList:
    plans = await gateway.plans.page(after=page.cursor, limit=page.to_read)
    return PlanList.of(plans, page, id_of=lambda plan: plan.name, read=PlanRead.model_validate)


@router.get("/{name}", summary="Read a plan", responses=problem_responses(PlanNotFoundError))
async def get_plan(gateway: Gateway, name: str) -> PlanRead:
    return PlanRead.model_validate(await gateway.plans.get(name))


@router.patch(
    "/{name}",
    summary="Change a plan",
    description=(
        "Absent fields stay as they are. With a new time zone, its users' day and month start "
        "anew, and what they used since the new start still counts."
    ),
    openapi_extra=body_of(PlanPatch),
    responses=problem_responses(*BODY_PROBLEMS, PlanNotFoundError, PlanInUseError),
)
async def change_plan(gateway: Gateway, operator: Operator, name: str, body: JsonBody) -> PlanRead:
    changes = parse(PlanPatch, body).changes()
    return PlanRead.model_validate(await gateway.plans.change(name, changes, actor=operator))


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete a plan that is not in use",
    responses=problem_responses(PlanNotFoundError, PlanInUseError),
)
async def delete_plan(gateway: Gateway, operator: Operator, name: str) -> None:
    await gateway.plans.delete(name, actor=operator)
