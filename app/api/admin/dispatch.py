"""/v1/admin/dispatch: whether jobs are sent and followed, and the switch to stop sending."""

from typing import Any, Literal

from pydantic import BaseModel

from app.api.admin.auth import Operator
from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminBody
from app.api.body import BODY_PROBLEMS, body_of, parse
from app.api.deps import Gateway, JsonBody
from app.api.problems import problem_responses
from app.jobs.lanes.lane import Lane
from app.jobs.wire import Instant

router = admin_router("/dispatch")


class Dispatch(AdminBody):
    paused: bool


class LaneRead(BaseModel):
    """`reason` is null while all is well; `until` is when it is tried again."""

    paused: bool
    reason: (
        Literal["operator", "retry_after", "upstream_unavailable", "token_refused", "no_balance"]
        | None
    )
    since: Instant | None
    until: Instant | None


class AccountRead(LaneRead):
    """A RunComfy account; its `unfinished` jobs still need its token."""

    name: str
    drains: bool
    unfinished: int
    polling: LaneRead


class DispatchRead(LaneRead):
    polling: LaneRead
    accounts: list[AccountRead]


@router.get("", summary="Read whether sending is paused, and why")
async def read_dispatch(gateway: Gateway) -> DispatchRead:
    return await _traffic(gateway)


@router.put(
    "",
    summary="Pause sending, or resume it",
    description=(
        "Jobs are still accepted and followed. Resuming also reopens what was closed because "
        "RunComfy refused the token, the account had no balance, or RunComfy did not answer."
    ),
    openapi_extra=body_of(Dispatch),
    responses=problem_responses(*BODY_PROBLEMS),
)
async def switch_dispatch(gateway: Gateway, actor: Operator, body: JsonBody) -> DispatchRead:
    wanted = parse(Dispatch, body)
    await gateway.traffic.set_paused(paused=wanted.paused, actor=actor)
    return await _traffic(gateway)


async def _traffic(gateway: Gateway) -> DispatchRead:
    traffic = await gateway.traffic.read()
    submits: dict[str, Any] = {"paused": True, "reason": "operator", "since": None, "until": None}
    if not traffic.is_paused:
        submits = _lane(traffic.submits)
    return DispatchRead(
        **submits,
        polling=LaneRead(**_lane(traffic.polls)),
        accounts=[
            AccountRead(
                name=account.name,
                drains=account.drains,
                unfinished=account.unfinished,
                **_lane(account.submits),
                polling=LaneRead(**_lane(account.polls)),
            )
            for account in traffic.accounts
        ],
    )


def _lane(lane: Lane) -> dict[str, Any]:
    closed = lane.reason is not None
    return {
        "paused": closed,
        "reason": lane.reason,
        "since": lane.changed_at if closed else None,
        "until": lane.closed_until,
    }
