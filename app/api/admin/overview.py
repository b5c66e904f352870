"""/v1/admin/overview: what an operator looks at first."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from app.api.admin.routing import admin_router
from app.api.deps import Gateway
from app.jobs.operations.overview import Hour
from app.jobs.state import Status
from app.jobs.wire import Instant

router = admin_router("/overview")


class DetectionRead(BaseModel):
    mean: float
    most: float


class HourRead(BaseModel):
    since: Instant
    accepted: int
    completed: int
    failed: int
    cancelled: int
    detection_seconds: DetectionRead | None = Field(
        description="From a job's end at RunComfy until the gateway knows of it."
    )


class OverviewRead(BaseModel):
    at: Instant
    unfinished: dict[Status, int] = Field(description="Jobs that are not final now, by status.")
    hours: list[HourRead] = Field(
        description="The jobs accepted in each hour, oldest first, and how they have ended so far."
    )


@router.get("", summary="Read how all jobs are doing")
async def read_overview(
    gateway: Gateway, hours: Annotated[int, Query(ge=1, le=48)] = 24
) -> OverviewRead:
    overview = await gateway.overview.read(hours=hours)
    return OverviewRead(
        at=overview.at,
        unfinished=dict(overview.unfinished),
        hours=[_read(hour) for hour in overview.hours],
    )


def _read(hour: Hour) -> HourRead:
    detection = None
    if hour.detection is not None:
        mean, most = hour.detection.mean, hour.detection.most
        detection = DetectionRead(
            mean=round(mean.total_seconds(), 3), most=round(most.total_seconds(), 3)
        )
    return HourRead(
        since=hour.since,
        accepted=hour.accepted,
        completed=hour.completed,
        failed=hour.failed,
        cancelled=hour.cancelled,
        detection_seconds=detection,
    )
