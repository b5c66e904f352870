"""/v1/admin/users: who may use the gateway; the ids of a service's users contain a slash."""

from typing import Annotated, Literal

from fastapi import Depends, Query, Response
from pydantic import Field, StringConstraints

from app.api.admin.auth import Operator
from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminBody, AdminRead, LimitsBody, LimitsRead
from app.api.body import BODY_PROBLEMS, CreateBody, body_of, parse
from app.api.deps import Gateway, JsonBody
from app.api.paging import Listed, Page, page_query
from app.api.problems import problem_responses
from app.auth.directory.checks import could_be_user_id
from app.auth.directory.errors import UserExistsError, UserHasLiveJobsError, UserNotFoundError
from app.jobs.wire import Instant

router = admin_router("/users")


class UserPatch(AdminBody):
    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    plan: str | None = Field(default=None, description="Null: the default plan.")
    limits: LimitsBody = Field(
        default={}, description="They replace the plan's limits of the same names."
    )
    disabled: bool = Field(default=False, description="Whether all of the user's keys are refused.")


class UserCreate(CreateBody, UserPatch):
    id: str = Field(description="1 to 128 of letters, digits and . _ @ : -")


class UserRead(AdminRead):
    object: Literal["user"] = "user"
    id: str
    name: str | None
    plan: str | None
    limits: LimitsRead
    disabled: bool
    created_at: Instant


class UserList(Listed[UserRead]):
    pass


_Page = Annotated[Page, Depends(page_query("plan", is_cursor=could_be_user_id))]


@router.post(
    "",
    status_code=201,
    summary="Create a user",
    openapi_extra=body_of(UserCreate),
    responses=problem_responses(*BODY_PROBLEMS, UserExistsError),
)
async def create_user(
    gateway: Gateway, operator: Operator, body: JsonBody, response: Response
) -> UserRead:
    asked = parse(UserCreate, body)
    changes = asked.changes(without="id")
    user = await gateway.users.create(asked.id, changes, actor=operator)
    response.headers["Location"] = f"{gateway.base_path}/v1/admin/users/{user.id}"
    return UserRead.model_validate(user)


@router.get("", summary="List users by id; `plan` selects one plan")
async def list_users(
    gateway: Gateway, page: _Page, plan: Annotated[str | None, Query()] = None
) -> UserList:
    users = await gateway.users.page(plan=plan, after=page.cursor, limit=page.to_read)
    return UserList.of(users, page, read=UserRead.model_validate)


@router.get(
    "/{user_id:path}", summary="Read a user", responses=problem_responses(UserNotFoundError)
)
async def get_user(gateway: Gateway, user_id: str) -> UserRead:
    return UserRead.model_validate(await gateway.users.get(user_id))


@router.patch(
    "/{user_id:path}",
    summary="Change a user",
    description=(
        "Absent fields stay as they are. If the new plan has another time zone, the user's day and "
        "month start anew, and what was used since the new start still counts."
    ),
    openapi_extra=body_of(UserPatch),
    responses=problem_responses(*BODY_PROBLEMS, UserNotFoundError),
)
async def change_user(
    gateway: Gateway, operator: Operator, user_id: str, body: JsonBody
) -> UserRead:
    changes = parse(UserPatch, body).changes()
    return UserRead.model_validate(await gateway.users.change(user_id, changes, actor=operator))


@router.delete(
    "/{user_id:path}",
    status_code=204,
    summary="Erase a user",
    description=(
        "Also erases the user's jobs and keys, and the users it acts for with theirs. The ledger "
        "and the audit log stay."
    ),
    responses=problem_responses(UserNotFoundError, UserHasLiveJobsError),
)
async def delete_user(gateway: Gateway, operator: Operator, user_id: str) -> None:
    await gateway.users.erase(user_id, actor=operator)
