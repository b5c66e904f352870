"""What routes ask for is given without a thread: a hop to one costs as much as a small route."""

from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

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


def test_every_dependency_is_a_coroutine() -> None:
    rooms = (jobs, events, outputs, files, models, requests, webhooks, me, client_tokens)
    routers = [room.router for room in (*rooms, health, exposition)] + admin.routers
    routes = [route for router in routers for route in router.routes]

    asked = [
        dependant
        for route in routes
        if isinstance(route, APIRoute)
        for dependant in _all_of(route.dependant)
    ]

    assert len(asked) > len(routes)
    assert [each for each in asked if not _awaits(each.call)] == []


def _all_of(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from _all_of(each)


def _awaits(call: Any) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
