"""The calls that RunComfy has too: same paths, same bodies, same error shape."""

import re
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.core.errors import ProblemError
from app.core.pointers import pointer_steps

_PREFIXES = ("/v1/models", "/v1/requests")

_MOST_NAMED = 3
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")

_ERROR_CODES = {
    HTTPStatus.UNAUTHORIZED: 400004,
    HTTPStatus.FORBIDDEN: 403001,
    HTTPStatus.NOT_FOUND: 404001,
    HTTPStatus.METHOD_NOT_ALLOWED: 405001,
    HTTPStatus.UNPROCESSABLE_ENTITY: 422001,
    HTTPStatus.TOO_MANY_REQUESTS: 429001,
}


class RunComfyErrorRead(BaseModel):
    """RunComfy's error body; `detail` says more if the input is at fault."""

    model_config = ConfigDict(extra="allow")

    error_code: int = Field(description="The HTTP status followed by three more digits.")
    error_message: str


def is_runcomfy_path(path: str) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in _PREFIXES)


def render(problem: ProblemError) -> JSONResponse:
    """Render an error as RunComfy words it."""
    status, error_code = _status_and_code(type(problem))
    body: dict[str, Any] = {"error_code": error_code, "error_message": _message(problem)}
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        body["detail"] = _detail(problem)
    return JSONResponse(body, status_code=status, headers=problem.headers)


def error_responses(*kinds: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """Document the errors that a call can answer with, by status, as RunComfy words them."""
    by_status: dict[int | str, list[tuple[int, type[ProblemError]]]] = {}
    for kind in kinds:
        status, error_code = _status_and_code(kind)
        by_status.setdefault(status, []).append((error_code, kind))
    schema = {"$ref": "#/components/schemas/RunComfyErrorRead"}
    return {
        status: {
            "description": "; ".join(f"`{code}`: {kind.title}" for code, kind in same),
            "content": {
                "application/json": {
                    "schema": schema,
                    "examples": {
                        kind.code: {"value": {"error_code": code, "error_message": kind.title}}
                        for code, kind in same
                    },
                }
            },
        }
        for status, same in by_status.items()
    }


def _message(problem: ProblemError) -> str:
    """Put everything into the one message that RunComfy's clients show."""
    if not problem.errors:
        return problem.detail
    more = len(problem.errors) - _MOST_NAMED
    sentences = [error.detail for error in problem.errors[:_MOST_NAMED]]
    return " ".join([*sentences, f"And {more} more."] if more > 0 else sentences)


def _detail(problem: ProblemError) -> list[dict[str, Any]]:
    if name := problem.extra.get("parameter"):
        # Of our parameters only headers have a hyphen.
        place = "header" if "-" in name else "query"
        return [{"loc": [place, name], "msg": problem.detail, "type": problem.code}]
    if not problem.errors:
        return [{"loc": [], "msg": problem.detail, "type": problem.code}]
    return [
        {"loc": _loc(error.pointer), "msg": error.detail, "type": error.code}
        for error in problem.errors
    ]


def _loc(pointer: str) -> list[str | int]:
    """Turn a pointer into pydantic's path; the input it starts from is the whole body here."""
    if pointer == "/model":  # part of the URL here
        return ["path", "model_id"]
    steps = pointer_steps(pointer)
    within = steps[1:] if steps[:1] == ["input"] else steps
    return ["body", *(int(step) if _INDEX.fullmatch(step) else step for step in within)]


def _status_and_code(kind: type[ProblemError]) -> tuple[int, int]:
    if kind.code == "unknown_model":
        return HTTPStatus.BAD_REQUEST, 400001
    return kind.status, _ERROR_CODES.get(HTTPStatus(kind.status), kind.status * 1000 + 1)
