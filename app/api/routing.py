"""The router of every resource: how its calls are matched, named, read and answered."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.params import Depends
from fastapi.routing import APIRoute, serialize_response
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.types import Receive, Scope, Send

from app.api.deps import CALLER_PROBLEMS
from app.api.problems import merged, problem_responses


class _AnyText(PathConvertor):
    """The rest of a path, slashes and all; Starlette's own stops at a line break."""

    regex = r"[\s\S]*"


register_url_convertor("path", _AnyText())

RequestReader = Callable[[Request], Awaitable[Any]]
"""A dependency that needs only the request."""

_GIVEN = {"request": Request, "response": Response}
_NO_CONTENT = 204


class Route(APIRoute):
    """Calls readers itself if an endpoint takes only readers and strings from its path.

    Then nothing else can refuse a request, readers run in the order of the parameters, and nothing
    needs closing, since a reader returns and does not yield. The framework still documents these
    calls like all others; but resolving each dependency and each kind of parameter on every
    request would take longer than most calls do.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        super().__init__(path, endpoint, **settings)
        parameters = signature(endpoint).parameters.values()
        self._readers = {each.name: found for each in parameters if (found := _reader(each))}
        others = [each for each in parameters if each.name not in self._readers]
        self._others = [each.name for each in others]
        if not self.dependencies and all(_is_certain(each, path) for each in others):
            self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = _Blank(status_code=self.status_code or 200)
        known = {**request.path_params, "request": request, "response": response}
        asked = {name: known[name] for name in self._others}
        for name, read in self._readers.items():
            asked[name] = await read(request)
        answer = await self.endpoint(**asked)
        if not isinstance(answer, Response):
            answer = await self._filled(response, answer)
        await answer(scope, receive, send)

    async def _filled(self, response: Response, answer: Any) -> Response:
        """Write an answer as the framework would, into a response that may have headers already."""
        if response.status_code != _NO_CONTENT:
            response.body = await serialize_response(
                field=self.response_field,
                response_content=answer,
                exclude_none=self.response_model_exclude_none,
                dump_json=True,
            )
            response.raw_headers += [
                (b"content-length", b"%d" % len(response.body)),
                (b"content-type", b"application/json"),
            ]
        return response


class _Blank(Response):
    """A response without headers yet; an endpoint may copy those it sets to one of its own."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = []


class Router(APIRouter):
    """Its routes are complete, so that an app can take them without including the router.

    For an included router the framework matches each route twice on every request.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(route_class=Route, generate_unique_id_function=_name_of, **settings)

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        responses: dict[int | str, dict[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        """Document, by status, how every call of the router can fail, and how this one can."""
        documented = {
            status: merged(self.responses[status], own) if status in self.responses else own
            for status, own in (responses or {}).items()
        }
        super().add_api_route(path, endpoint, responses=documented, **settings)


def caller_router(prefix: str, *, tag: str) -> Router:
    """Make the router of a resource whose calls need a caller, each with its problems."""
    return Router(prefix=prefix, tags=[tag], responses=problem_responses(*CALLER_PROBLEMS))


def _name_of(route: APIRoute) -> str:
    return route.name


def _reader(parameter: Parameter) -> RequestReader | None:
    for marker in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(marker, Depends) and marker.dependency is not None:
            needs = signature(marker.dependency).parameters.values()
            if [each.annotation for each in needs] == [Request]:
                return marker.dependency
    return None


def _is_certain(parameter: Parameter, path: str) -> bool:
    is_text_of_path = parameter.annotation is str and f"{{{parameter.name}" in path
    return is_text_of_path or _GIVEN.get(parameter.name) is parameter.annotation
