"""/v1/admin: what operators do, with a token of their own."""

from app.api.admin import (
    audit,
    deliveries,
    dispatch,
    invariants,
    jobs,
    keys,
    outputs,
    overview,
    plans,
    prices,
    shadow,
    usage,
    user_limits,
    users,
)
from app.api.admin.routing import fallback_router

_rooms = (
    *(plans, users, user_limits, keys, jobs, outputs, prices, audit, deliveries),
    *(dispatch, invariants, usage, overview, shadow),
)
_routers = [room.router for room in _rooms]
routers = [*_routers, fallback_router(_routers)]
