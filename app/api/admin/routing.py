"""What all admin routes share, and the answer to unknown paths."""

from collections.abc import Sequence
from itertools import chain

from fastapi import Depends, Request

from app.api.admin.auth import operator
from app.api.admin.wire import ALWAYS
from app.api.problems import methods_of, no_such_route
from app.api.routing import Router

_PREFIX = "/v1/admin"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def admin_router(path: str) -> Router:
    """Make the router of one resource; each of its calls needs an operator."""
    return Router(
        prefix=f"{_PREFIX}{path}",
        tags=["admin"],
        dependencies=[Depends(operator)],
        responses=ALWAYS,
    )


def fallback_router(routers: Sequence[Router]) -> Router:
    """Make the router for all other paths and methods; only operators learn what exists."""
    rest = admin_router("")

    @rest.api_route("/{path:path}", methods=_METHODS, include_in_schema=False)
    async def refuse(request: Request) -> None:
        routes = chain.from_iterable(router.routes for router in routers)
        raise no_such_route(request, methods=methods_of(request, routes))

    return rest
