"""The one renderer of errors: RFC 9457 problem details, for what we raise and what others raise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from app.api import runcomfy
from app.api.context import request_id_of
from app.catalogue.media import MediaFault
from app.catalogue.wording import quoted
from app.core.errors import InvalidRequestError, NotFoundError, ProblemError
from app.core.metrics import Metrics

MEDIA_TYPE = "application/problem+json"

_LONGEST_QUOTE = 200
_OF_FILES = ("GET", "HEAD")
_SETTING_RULES = ("greater_than", "less_than", "literal", "int_", "bool_")


class BadRequestError(ProblemError):
    """An HTTP error that the framework raises and that has no name here."""

    code = "bad_request"
    title = "The request cannot be handled"
    status = 400


class MethodNotAllowedError(ProblemError):
    code = "method_not_allowed"
    title = "The path does not take this method"
    status = 405


class PayloadTooLargeError(ProblemError):
    code = "payload_too_large"
    title = "The body is too large"
    status = 413


class UnsupportedMediaTypeError(ProblemError):
    code = "unsupported_media_type"
    title = "The body must be JSON"
    status = 415


class InvalidParameterError(InvalidRequestError):
    code = "invalid_parameter"
    title = "A parameter or header breaks a rule"

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail, parameter=name)


class InternalError(ProblemError):
    code = "internal_error"
    title = "The gateway made a mistake"
    status = 500

    def __init__(self) -> None:
        super().__init__(
            "This is a bug of the gateway, not of your request; it was logged under `request_id`."
        )


class FieldErrorRead(BaseModel):
    pointer: str = Field(description="RFC 6901, from the start of the request body.")
    code: str = Field(
        description="The broken rule: a keyword of JSON Schema (`required`, `enum`, `max_length`),"
        " `unknown_field`, the code of a problem, or the fault of a file that an input names:"
        f" {', '.join(f'`{fault}`' for fault in get_args(MediaFault))}."
    )
    detail: str


class ProblemRead(BaseModel):
    """RFC 9457; `type` ends in `code`, which is the same for every answer of its kind."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldErrorRead] = []


def problem_responses(*kinds: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """Document the problems that a route can answer with, by status and code."""
    by_status: dict[int | str, list[type[ProblemError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: {
            "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in same),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/ProblemRead"},
                    "examples": {kind.code: {"value": _example(kind)} for kind in same},
                }
            },
        }
        for status, same in by_status.items()
    }


def merged(*answers: Mapping[str, Any]) -> dict[str, Any]:
    """Document several error responses as one."""
    (media_type,) = answers[0]["content"]
    bodies = [answer["content"][media_type] for answer in answers]
    examples = {code: example for body in bodies for code, example in body["examples"].items()}
    return {
        "description": "; ".join(answer["description"] for answer in answers),
        "content": {media_type: {"schema": bodies[0]["schema"], "examples": examples}},
    }


def install(app: FastAPI, *, metrics: Metrics) -> None:
    """Render every error of the app."""
    app.state.metrics = metrics
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


def render(problem: ProblemError, request: Request) -> JSONResponse:
    if runcomfy.is_runcomfy_path(request.scope["path"]):
        return runcomfy.render(problem)
    body = {
        "type": _type_of(type(problem)),
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": _path_of(request),
        "code": problem.code,
        "request_id": request_id_of(request.scope),
        **problem.extra,
    }
    if problem.errors:
        body["errors"] = [asdict(error) for error in problem.errors]
    return JSONResponse(
        body, status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def no_such_route(request: Request, *, methods: Sequence[str]) -> ProblemError:
    """Make the problem for a wrong method, or for a path where nothing is."""
    path = _path_of(request)
    if not methods:
        return NotFoundError(f"There is no {path!r} here; see /openapi.json.")
    allowed = ", ".join(methods)
    return MethodNotAllowedError(
        f"{path} takes {allowed}, not {request.method[:20]}.", headers={"Allow": allowed}
    )


def methods_of(request: Request, routes: Iterable[BaseRoute]) -> Sequence[str]:
    """Collect the methods of all routes that match: the framework names only the first's."""
    methods: set[str] = set()
    for route in routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


async def _on_problem(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, ProblemError)
    if exc.status == HTTPStatus.TOO_MANY_REQUESTS:
        metrics: Metrics = request.app.state.metrics
        metrics.refusals.labels(exc.code, exc.extra.get("limit", "")).inc()
    return render(exc, request)


async def _on_http_exception(request: Request, exc: Exception) -> JSONResponse:
    """Translate the framework's own refusals: unknown paths and methods."""
    assert isinstance(exc, HTTPException)
    match exc.status_code:
        case HTTPStatus.METHOD_NOT_ALLOWED if "app_root_path" in request.scope:
            # A mount sets this on the requests it takes; we mount only files.
            problem = no_such_route(request, methods=_OF_FILES)
        case HTTPStatus.METHOD_NOT_ALLOWED:
            problem = no_such_route(request, methods=methods_of(request, request.app.routes))
        case HTTPStatus.NOT_FOUND:
            problem = no_such_route(request, methods=())
        case _:
            problem = BadRequestError(str(exc.detail), headers=dict(exc.headers or {}))
    return render(problem, request)


async def _on_validation_error(request: Request, exc: Exception) -> JSONResponse:
    """Name the parameter; bodies are read by `api.body`, so only parameters get here."""
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    where, *names = (str(part) for part in first["loc"])
    name = names[0] if names else where
    if where == "path":
        return render(
            NotFoundError(f"This is not a valid {name!r}; there is nothing here."), request
        )
    detail = f"The {where} parameter {name!r}: {first['msg']}{contrast(first)}."
    return render(InvalidParameterError(name, detail), request)


def contrast(error: Mapping[str, Any]) -> str:
    """Quote what was sent in place of a number or a known word; any other text is private.

    `error` is one of pydantic's, with its input.
    """
    given = error["input"]
    is_scalar = given is None or isinstance(given, str | int | float)
    if not (is_scalar and error["type"].startswith(_SETTING_RULES)):
        return ""
    return f", not {quoted(given)}"


def _path_of(request: Request) -> str:
    """Quote the path; not from request.url, which what the caller sent can make invalid."""
    path: str = request.scope["path"]
    return path[:_LONGEST_QUOTE].encode("utf-8", "replace").decode()


def _type_of(kind: type[ProblemError]) -> str:
    return f"urn:runcomfy-gateway:problem:{kind.code}"


def _example(kind: type[ProblemError]) -> dict[str, Any]:
    return {
        "type": _type_of(kind),
        "title": kind.title,
        "status": kind.status,
        "detail": "A sentence that names the field, the rule and the way out.",
        "instance": "/v1/jobs",
        "code": kind.code,
        "request_id": "req_01m823xe2bewaaqepnk4s10yx9",
    }
