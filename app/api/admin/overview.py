"""/v1/admin/overview: what an operator looks at first."""

from dataclasses import asdict
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from app.api.admin.routing import admin_router
from app.api.admin.wire import LIST_PROBLEMS, Time
from app.api.deps import Gateway
from app.jobs.state import Status

router = admin_router("/overview")


class HourRead(BaseModel):
    since: Time
    accepted: int
    completed: int
    failed: int
    cancelled: int


class OverviewRead(BaseModel):
    at: Time
    unfinished: dict[Status, int] = Field(description="Jobs that are not final now, by status.")
    hours: list[HourRead] = Field(
        description="The jobs accepted in each hour, the oldest first, and how they ended so far."
    )


@router.get("", summary="How do all jobs fare?", responses=LIST_PROBLEMS)
async def read_overview(
    gateway: Gateway, hours: Annotated[int, Query(ge=1, le=48)] = 24
) -> OverviewRead:
    overview = await gateway.overview.read(hours=hours)
    return OverviewRead(
        at=overview.at,
        unfinished=dict(overview.unfinished),
        hours=[HourRead(**asdict(hour)) for hour in overview.hours],
    )
