"""/v1/admin/dispatch, /invariants and /usage: the whole gateway at a glance."""

from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import Query, Request
from pydantic import BaseModel

from app.api.admin.auth import Operator
from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminBody
from app.api.body import BODY_PROBLEMS, body_of, parse
from app.api.deps import Gateway, JsonBody
from app.api.me import AS_CSV, UsageRead, groupings, span, usage_answer
from app.api.problems import InvalidParameterError, problem_responses
from app.jobs.lane import Lane
from app.jobs.wire import Instant
from app.quotas.usage import Grouping

router = admin_router("")

_UTC = ZoneInfo("UTC")


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
    """A RunComfy account; `unfinished` jobs still need its token."""

    name: str
    drains: bool
    unfinished: int
    polling: LaneRead


class DispatchRead(LaneRead):
    polling: LaneRead
    accounts: list[AccountRead]


class ViolationRead(BaseModel):
    rule: str
    subject: str


class InvariantsRead(BaseModel):
    ok: bool
    violations: list[ViolationRead]


@router.get("/dispatch", summary="Is sending paused?")
async def read_dispatch(gateway: Gateway) -> DispatchRead:
    return await _traffic(gateway)


@router.put(
    "/dispatch",
    summary="Stop sending, or go on",
    description="Jobs are accepted and followed all the same. Going on also opens what was closed"
    " because RunComfy refused the token, had no balance, or did not answer.",
    openapi_extra=body_of(Dispatch),
    responses=problem_responses(*BODY_PROBLEMS),
)
async def switch_dispatch(gateway: Gateway, actor: Operator, body: JsonBody) -> DispatchRead:
    wanted = parse(Dispatch, body)
    await gateway.operator_jobs.pause(paused=wanted.paused, actor=actor)
    return await _traffic(gateway)


async def _traffic(gateway: Gateway) -> DispatchRead:
    traffic = await gateway.operator_jobs.traffic()
    submits: dict[str, Any] = {"paused": True, "reason": "operator", "since": None, "until": None}
    if not traffic.switched_off:
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


@router.get(
    "/invariants",
    summary="Does everything add up?",
    description="Ledger against accounts, holds against jobs, events against states.",
)
async def read_invariants(gateway: Gateway) -> InvariantsRead:
    found = await gateway.operator_jobs.violations()
    return InvariantsRead(
        ok=not found,
        violations=[ViolationRead(rule=each.rule, subject=each.subject) for each in found],
    )


@router.get(
    "/usage",
    response_model=UsageRead,
    summary="What did everybody use?",
    description="Days are those of UTC. With `Accept: text/csv` the answer is a file.",
    responses=AS_CSV,
)
async def read_all_usage(
    gateway: Gateway,
    request: Request,
    user: Annotated[str | None, Query(max_length=300)] = None,
    since: Annotated[str | None, Query(alias="from")] = None,
    until: Annotated[str | None, Query(alias="to")] = None,
    group_by: Annotated[str, Query(description="`day`, `user`, `model`, `key`.")] = "day",
) -> Any:
    if user is not None and "\0" in user:
        raise InvalidParameterError("user", "A user id cannot hold a NUL.")
    groups = groupings(group_by, known=list(Grouping))
    start, end = span(since, until, zone=_UTC, at=gateway.clock.now())
    rows = await gateway.quotas.usage(
        since=start, until=end, zone=_UTC, group_by=groups, user_id=user
    )
    return usage_answer(rows, request=request, zone=_UTC, groups=groups)
