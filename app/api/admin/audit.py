"""/v1/admin/audit: what operators did."""

from typing import Annotated, Any

from fastapi import Depends
from pydantic import Field

from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminRead
from app.api.deps import Gateway
from app.api.paging import Listed, Page, page_of_ids
from app.jobs.wire import Instant

router = admin_router("/audit")


class AuditRead(AdminRead):
    id: str
    at: Instant
    actor: str = Field(description="The name of an admin token, `cli:<os user>` or `system`.")
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditList(Listed[AuditRead]):
    pass


_Page = Annotated[Page, Depends(page_of_ids("audit"))]


@router.get("", summary="List what operators did, newest first")
async def list_audit(gateway: Gateway, page: _Page) -> AuditList:
    entries = await gateway.audit.page(before=page.cursor, limit=page.to_read)
    return AuditList.of(entries, page, read=AuditRead.model_validate)
