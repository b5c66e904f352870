"""What routes ask for is given without a thread: a hop to one costs as much as a small route."""

from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.main import create_app
from app.settings import explicit_settings


def test_every_dependency_is_a_coroutine() -> None:
    app = create_app(explicit_settings(upstream_url="sandbox"), public_url="https://gateway.test")
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    asked = [dependant for route in routes for dependant in _all_of(route.dependant)]
    assert len(asked) > len(routes) > 50
    assert [each for each in asked if not _awaits(each.call)] == []


def _all_of(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from _all_of(each)


def _awaits(call: Any) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
