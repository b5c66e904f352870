"""/v1/admin/invariants: whether ledger, accounts, jobs and events agree."""

from pydantic import BaseModel

from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminRead
from app.api.deps import Gateway

router = admin_router("/invariants")


class ViolationRead(AdminRead):
    rule: str
    subject: str


class InvariantsRead(BaseModel):
    ok: bool
    violations: list[ViolationRead]


@router.get(
    "",
    summary="Check that everything adds up",
    description="Compares the ledger with accounts, holds with jobs, and events with states.",
)
async def read_invariants(gateway: Gateway) -> InvariantsRead:
    found = await gateway.operator_jobs.violations()
    return InvariantsRead(ok=not found, violations=list(map(ViolationRead.model_validate, found)))
