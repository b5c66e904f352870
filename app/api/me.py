"""/v1/me: who a caller is, what it may do, and what is left of its limits."""

from pydantic import BaseModel

from app.api.deps import AnyCaller, Gateway
from app.api.limits import LimitRead, read_limits
from app.api.routing import caller_router

router = caller_router("/v1", tag="me")


class MeRead(BaseModel):
    user: str
    key: str
    plan: str | None
    timezone: str
    scopes: list[str]
    models: list[str] | None
    limits: list[LimitRead]


@router.get("/me", summary="Read who you are and what is left of your limits")
async def read_me(gateway: Gateway, caller: AnyCaller) -> MeRead:
    standings = await gateway.quotas.standings(caller)
    return MeRead(
        user=caller.user_id,
        key=caller.key_id,
        plan=caller.plan,
        timezone=caller.policy.zone.key,
        scopes=sorted(caller.scopes),
        models=None if caller.models is None else sorted(caller.models),
        limits=read_limits(standings),
    )
