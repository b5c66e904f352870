"""How every call of the admin API begins, and what answers where none is."""

from collections.abc import Sequence

from fastapi import Depends, Request
from starlette.routing import Match

from app.api.admin.auth import operator
from app.api.admin.wire import ALWAYS
from app.api.problems import MethodNotAllowedError
from app.api.routing import Router
from app.core.errors import NotFoundError

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


def rest_of(routers: Sequence[Router]) -> Router:
    """Make the router of all other paths and methods, which tells operators only what is there."""
    rest = admin_router("")

    @rest.api_route("/{path:path}", methods=_METHODS, include_in_schema=False)
    async def refuse(request: Request) -> None:
        path = request.scope["path"][:200]
        if allowed := _methods(request, routers):
            raise MethodNotAllowedError(
                f"{path} takes {', '.join(allowed)}, not {request.method[:20]}.",
                headers={"Allow": ", ".join(allowed)},
            )
        raise NotFoundError(f"There is no {path!r} here; see /openapi.json.")

    return rest


def _methods(request: Request, routers: Sequence[Router]) -> Sequence[str]:
    methods: set[str] = set()
    for route in (route for router in routers for route in router.routes):
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)
