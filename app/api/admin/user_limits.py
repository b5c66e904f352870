"""/v1/admin/user-limits: where limits stand; not under /users, as an id may end in `/limits`."""

from pydantic import BaseModel, Field

from app.api.admin.routing import admin_router
from app.api.deps import Gateway
from app.api.limits import LimitRead, read_limits
from app.api.problems import problem_responses
from app.auth.directory.errors import UserNotFoundError
from app.quotas.standings import Caller

router = admin_router("/user-limits")


class UserLimitsRead(BaseModel):
    user: str
    timezone: str = Field(description="Time zone of the user's days and months.")
    limits: list[LimitRead]


@router.get(
    "/{user_id:path}",
    summary="Read what is left of a user's limits",
    description="From plan and overrides; a key may have tighter limits of its own.",
    responses=problem_responses(UserNotFoundError),
)
async def read_user_limits(gateway: Gateway, user_id: str) -> UserLimitsRead:
    policy = await gateway.users.policy(user_id)
    caller = Caller(policy=policy, user_id=user_id, key_id="")
    standings = await gateway.quotas.standings(caller)
    return UserLimitsRead(user=user_id, timezone=policy.zone.key, limits=read_limits(standings))
