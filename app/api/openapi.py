"""The OpenAPI document: the framework's own, completed and corrected.

The framework knows neither the bodies that `api.body` reads nor the problems that any call can
meet, and for every call with a parameter it documents a validation error that we never send.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api import runcomfy
from app.api.described import described
from app.api.jobs import JobCreate
from app.api.problems import (
    BadRequestError,
    InternalError,
    InvalidParameterError,
    MethodNotAllowedError,
    ProblemRead,
    merged,
    problem_responses,
)
from app.core.errors import NotFoundError, ProblemError

_REF = "#/components/schemas/{model}"
_FOREIGN_SCHEMAS = ("HTTPValidationError", "ValidationError")
_EVERYWHERE = (BadRequestError, NotFoundError, MethodNotAllowedError, InternalError)


def describe(app: FastAPI) -> dict[str, Any]:
    """Make the document that says what an application's calls take and return."""
    document = app.openapi()
    for path, operation in _operations(document):
        responses = operation["responses"]
        if _is_foreign(responses.get("422", {})):
            del responses["422"]
        if any(parameter["in"] != "path" for parameter in operation.get("parameters", ())):
            for status, answer in _errors(path, InvalidParameterError).items():
                known = responses.get(status)
                responses[status] = merged(known, answer) if known else answer
        responses["default"] = _any_error(path)
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            _add_what_is_read(document, route)
    schemas = document["components"]["schemas"]
    for name in _FOREIGN_SCHEMAS:
        schemas.pop(name, None)
    schemas |= _schemas(JobCreate, ProblemRead, runcomfy.RunComfyErrorRead)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _add_what_is_read(document: dict[str, Any], route: APIRoute) -> None:
    """Add what the route's dependencies read, which the framework does not know."""
    schemes = document["components"].setdefault("securitySchemes", {})
    for each in described(route.dependant):
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            operation["parameters"] = operation.get("parameters", []) + [
                {
                    "name": name,
                    "in": "header",
                    "required": False,
                    "schema": {"type": "string"},
                    "description": meaning,
                }
                for name, meaning in each.headers.items()
            ]
            if each.scheme is not None:
                schemes[each.scheme.scheme_name] = each.scheme.model.model_dump(
                    mode="json", by_alias=True, exclude_none=True
                )
                needed: dict[str, list[str]] = {each.scheme.scheme_name: []}
                security = operation.setdefault("security", [])
                if needed not in security:  # a route that names alternatives names this one too
                    security.append(needed)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation


def _is_foreign(response: dict[str, Any]) -> bool:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(schema.get("$ref", "").endswith(f"/{_FOREIGN_SCHEMAS[0]}"))


def _errors(path: str, *kinds: type[ProblemError]) -> dict[str, Any]:
    """Document errors in the shape that calls on this path use."""
    describe = runcomfy.error_responses if runcomfy.is_runcomfy_path(path) else problem_responses
    return {str(status): response for status, response in describe(*kinds).items()}


def _any_error(path: str) -> dict[str, Any]:
    """Document what any call can meet: a wrong path or method, an invalid request, a bug."""
    return merged(*_errors(path, *_EVERYWHERE).values())


def _schemas(*models: type[BaseModel]) -> dict[str, Any]:
    _, made = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas: dict[str, Any] = made["$defs"]
    return schemas
