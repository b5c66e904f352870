"""What routes ask for is given without a thread: a hop to one costs as much as a small route."""

from inspect import iscoroutinefunction
from typing import Any

from app.api import (
    admin,
    client_tokens,
    events,
    files,
    health,
    jobs,
    me,
    models,
    outputs,
    requests,
    webhooks,
)
from app.api import metrics as exposition
from app.api.routing import Route


def test_every_dependency_is_a_coroutine() -> None:
    rooms = (jobs, events, outputs, files, models, requests, webhooks, me, client_tokens)
    routers = [room.router for room in (*rooms, health, exposition)] + admin.routers
    routes = [route for router in routers for route in router.routes]

    asked = [call for route in routes if isinstance(route, Route) for call in route.asked]

    assert len(asked) > len(routes)
    assert [call for call in asked if not _awaits(call)] == []


def _awaits(call: Any) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
