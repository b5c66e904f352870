"""The routers of all resources: their calls go by the names of their functions."""

from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute


class Router(APIRouter):
    """Its routes are complete as they are: an app takes them without including the router.

    Of an included router the framework looks for each route twice at every request.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(generate_unique_id_function=_name_of, **settings)


def _name_of(route: APIRoute) -> str:
    return route.name
