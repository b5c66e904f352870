"""/v1/admin/usage: what everybody used, or one user."""

from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Query, Request

from app.api.admin.routing import admin_router
from app.api.deps import Gateway
from app.api.parameters import refuse_others
from app.api.usage import USAGE_ANSWERS, USAGE_PARAMETERS, UsageRead, groupings, span, usage_answer
from app.quotas.usage import Grouping

router = admin_router("/usage")

_UTC = ZoneInfo("UTC")


@router.get(
    "",
    response_model=UsageRead,
    summary="Read everybody's usage",
    description="Days are in UTC. With `Accept: text/csv` the answer is a CSV file.",
    responses=USAGE_ANSWERS,
)
async def read_all_usage(
    gateway: Gateway,
    request: Request,
    user: Annotated[str | None, Query(max_length=300)] = None,
    since: Annotated[str | None, Query(alias="from")] = None,
    until: Annotated[str | None, Query(alias="to")] = None,
    group_by: Annotated[
        str, Query(description="`day`, `user`, `model`, `key`, comma-separated.")
    ] = "day",
) -> Any:
    refuse_others(request, USAGE_PARAMETERS | {"user"})
    groups = groupings(group_by, known=list(Grouping))
    start, end = span(since, until, zone=_UTC, at=gateway.clock.now())
    rows = await gateway.quotas.usage(
        since=start, until=end, zone=_UTC, group_by=groups, user_id=user
    )
    return await usage_answer(rows, request=request, zone=_UTC, groups=groups)
