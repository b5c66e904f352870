"""A caller's limits as clients see them: in /v1/me, in validation and in response headers."""

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache, partial

from pydantic import BaseModel, Field
from starlette.types import Scope

from app.api.context import READS
from app.auth.models import Principal
from app.core.errors import DatabaseUnavailableError
from app.jobs.wire import Instant
from app.quotas.account import Standing
from app.quotas.errors import is_money, shown_amount
from app.quotas.policy import WINDOWED, AllowanceName, LimitName, Mode, Period
from app.quotas.standings import Standings, SubjectName

_SECONDS = {Period.DAY: 86_400, Period.MONTH: 2_592_000}

RawHeaders = Sequence[tuple[bytes, bytes]]
"""In ASGI's form: names in lower case."""


class LimitRead(BaseModel):
    """Money is a decimal string in US dollars, time is in seconds, all else is a count."""

    name: LimitName | AllowanceName
    subject: SubjectName = Field(description="Whose limit it is.")
    limit: str | int | float
    used: str | int | float
    held: str | int | float
    remaining: str | int | float
    resets_at: Instant | None
    mode: Mode


def read_limits(standings: Standings) -> list[LimitRead]:
    """Show each limit once; where user and key both have it, the one that will refuse first."""
    return [_read(subject, standing) for subject, standing in _tightest(standings)]


def _tightest(standings: Standings) -> Sequence[tuple[SubjectName, Standing]]:
    """Return, for each name, the one with less left; a shadow limit never hides an enforced one."""
    tightest: dict[LimitName | AllowanceName, tuple[SubjectName, Standing]] = {}
    for subject, standing in standings.each:
        known = tightest.get(standing.name)
        if known is None or _order(standing) < _order(known[1]):
            tightest[standing.name] = (subject, standing)
    return list(tightest.values())


def _order(standing: Standing) -> tuple[bool, Decimal]:
    return standing.mode == "shadow", standing.remaining


def _read(subject: SubjectName, standing: Standing) -> LimitRead:
    shown = partial(shown_amount, standing.name)
    return LimitRead(
        name=standing.name,
        subject=subject,
        limit=shown(standing.limit),
        used=shown(standing.used),
        held=shown(standing.held),
        remaining=shown(standing.remaining),
        resets_at=standing.resets_at,
        mode=standing.mode,
    )


async def limit_headers(scope: Scope) -> RawHeaders:
    """Return `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).

    Empty for an unauthenticated request. Money is in whole cents. Each name appears once, since
    the name ties a policy to what is left of it.
    """
    principal: Principal | None = scope["state"].get("principal")
    if principal is None:
        return ()
    services = scope["app"].state.services
    standings = scope["state"].get("standings")
    if standings is None:
        try:
            standings = await services.quotas.recent_standings(
                principal, fresh=scope["method"] not in READS
            )
        except DatabaseUnavailableError:
            return ()
    return _headers(standings)


@lru_cache(maxsize=1024)
def _headers(standings: Standings) -> RawHeaders:
    """Write the headers, which many answers within a second share."""
    enforced = [standing for _, standing in _tightest(standings) if standing.mode == "enforce"]
    if not enforced:
        return ()
    left = ", ".join([_left(standing, at=standings.at) for standing in enforced])
    policy = ", ".join([_policy(standing.name, standing.limit) for standing in enforced])
    return (b"ratelimit", left.encode()), (b"ratelimit-policy", policy.encode())


def _left(standing: Standing, *, at: datetime) -> str:
    left = f'"{standing.name.value}";r={_whole(standing.name, standing.remaining)}'
    if standing.resets_at is None:
        return left
    return f"{left};t={max(0, math.ceil((standing.resets_at - at).total_seconds()))}"


@lru_cache(maxsize=1024)
def _policy(name: LimitName | AllowanceName, limit: Decimal) -> str:
    policy = f'"{name.value}";q={_whole(name, limit)}'
    if name is LimitName.SUBMITS_PER_MINUTE:
        return f"{policy};w=60"
    if isinstance(name, LimitName) and name in WINDOWED:
        return f"{policy};w={_SECONDS[WINDOWED[name][1]]}"
    return policy


def _whole(name: LimitName | AllowanceName, amount: Decimal) -> int:
    return math.floor(amount * 100 if is_money(name) else amount)
