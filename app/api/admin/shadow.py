"""/v1/admin/shadow-findings: who would have been refused, had shadow limits been enforced."""

import re
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from app.api.admin.routing import admin_router
from app.api.deps import Gateway
from app.api.paging import Listed, Page, page_query
from app.jobs.wire import Instant
from app.quotas.shadow import DayOfFindings

router = admin_router("/shadow-findings")

_CURSOR = re.compile(r"\d{4}-\d\d-\d\d/[a-z_]{1,40}/[!-~]{1,600}")


class ShadowFindingRead(BaseModel):
    day: str = Field(description="In UTC.")
    user: str
    account: str = Field(description="Whose limit it was: `user:<id>` or `key:<id>`.")
    limit: str
    count: int = Field(description="How many accepted jobs it would have refused on that day.")
    last_at: Instant
    last_job: str


class ShadowFindingList(Listed[ShadowFindingRead]):
    pass


_Page = Annotated[Page, Depends(page_query("user", is_cursor=_CURSOR.fullmatch))]


@router.get("", summary="List what shadow limits would have refused")
async def list_shadow_findings(
    gateway: Gateway, page: _Page, user: Annotated[str | None, Query()] = None
) -> ShadowFindingList:
    days = await gateway.shadow.page(user_id=user, before=page.cursor, limit=page.to_read)
    return ShadowFindingList.of(days, page, read=_read)


def _read(day: DayOfFindings) -> ShadowFindingRead:
    return ShadowFindingRead(
        day=day.day,
        user=day.user_id,
        account=day.account,
        limit=day.limit,
        count=day.count,
        last_at=day.last_at,
        last_job=day.last_job_id,
    )
