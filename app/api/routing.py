"""The routers of all resources: how their calls are found, named and given what they ask for."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends
from fastapi.routing import APIRoute

Reader = Callable[[Request], Awaitable[Any]]
"""A dependency that needs the request alone."""


class Route(APIRoute):
    """Asks readers itself, where readers are all that a call asks for beside texts of its path.

    Then nothing else can refuse a request, and all is asked in the order of the parameters. The
    framework weighs each dependency anew at every request, which takes longer than most of them.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        self._readers = _readers(path, endpoint)
        call = _asking(self._readers, endpoint) if self._readers else endpoint
        super().__init__(path, call, **settings)

    @property
    def asked(self) -> Iterator[Callable[..., Any]]:
        """Give all that is asked before the call, by whomever."""
        yield from self._readers.values()
        yield from _asked(self.dependant)


class Router(APIRouter):
    """Its routes are complete as they are: an app takes them without including the router.

    Of an included router the framework looks for each route twice at every request.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(route_class=Route, generate_unique_id_function=_name_of, **settings)


def _name_of(route: APIRoute) -> str:
    return route.name


def _readers(path: str, endpoint: Callable[..., Any]) -> Mapping[str, Reader]:
    """Give who reads which parameter; nobody where the framework has to look at another."""
    parameters = signature(endpoint).parameters.values()
    readers = {each.name: found for each in parameters if (found := _reader(each))}
    others = [each for each in parameters if each.name not in readers]
    return readers if all(_is_certain(each, path) for each in others) else {}


def _reader(parameter: Parameter) -> Reader | None:
    for said in getattr(parameter.annotation, "__metadata__", ()):
        if type(said) is Depends and said.dependency is not None:
            needs = signature(said.dependency).parameters.values()
            if [each.annotation for each in needs] == [Request]:
                return said.dependency
    return None


def _is_certain(parameter: Parameter, path: str) -> bool:
    is_text_of_path = parameter.annotation is str and f"{{{parameter.name}" in path
    return parameter.annotation in (Request, Response) or is_text_of_path


def _asking(readers: Mapping[str, Reader], endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Make a call that shows the framework only those parameters that nobody reads."""
    whole = signature(endpoint)
    others = [each for each in whole.parameters.values() if each.name not in readers]
    takes_request = any(each.annotation is Request for each in others)
    if not takes_request:
        others.append(Parameter("request", Parameter.KEYWORD_ONLY, annotation=Request))

    @wraps(endpoint)
    async def call(**given: Any) -> Any:
        request = given["request"] if takes_request else given.pop("request")
        for name, read in readers.items():
            given[name] = await read(request)
        return await endpoint(**given)

    call.__signature__ = whole.replace(parameters=others)  # type: ignore[attr-defined]
    return call


def _asked(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    for each in dependant.dependencies:
        if each.call is not None:
            yield each.call
        yield from _asked(each)
