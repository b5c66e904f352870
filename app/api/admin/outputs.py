"""/v1/admin/outputs: which outputs were copied, and which may be forgotten before they are."""

import re
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from app.api.admin.routing import admin_router
from app.api.deps import Gateway
from app.api.paging import Listed, Page, page_query
from app.jobs.wire import Instant
from app.storage.archive import CopyState, OutputRecord

router = admin_router("/outputs")

_CURSOR = re.compile(r"job_[0-9a-z]{26}/[0-9]{1,5}")


class OutputRead(BaseModel):
    job: str
    n: int
    state: CopyState = Field(
        description="`gone`: RunComfy no longer had it when the gateway tried to copy it."
    )
    at_risk: bool = Field(description="Not copied for so long that RunComfy may forget it.")
    attempts: int
    due_at: Instant | None
    reason: str | None = Field(description="Why the last attempt failed.")
    size: int | None
    sha256: str | None
    media_type: str | None
    duration_seconds: float | None
    codec: str | None
    created_at: Instant
    archived_at: Instant | None


class OutputList(Listed[OutputRead]):
    pass


_Page = Annotated[Page, Depends(page_query("at_risk", is_cursor=_CURSOR.fullmatch))]


@router.get("", summary="List outputs and their copies, newest jobs first")
async def list_outputs(
    gateway: Gateway, page: _Page, at_risk: Annotated[bool | None, Query()] = None
) -> OutputList:
    job_id, _, n = (page.cursor or "").partition("/")
    outputs = await gateway.archive.page(
        at_risk=at_risk, before=(job_id, int(n)) if n else None, limit=page.to_read
    )
    return OutputList.of(outputs, page, read=_read)


def _read(output: OutputRecord) -> OutputRead:
    duration = output.duration
    return OutputRead(
        job=output.job_id,
        n=output.n,
        state=output.state,
        at_risk=output.at_risk,
        attempts=output.attempts,
        due_at=output.due_at,
        reason=output.reason,
        size=output.size,
        sha256=output.sha256,
        media_type=output.media_type,
        duration_seconds=None if duration is None else duration.total_seconds(),
        codec=output.codec,
        created_at=output.created_at,
        archived_at=output.archived_at,
    )
