"""The calls that RunComfy has too: same paths, same bodies, same error shape."""

from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

from app.core.errors import ProblemError

_PREFIXES = ("/v1/models", "/v1/requests")

_ERROR_CODES = {
    HTTPStatus.UNAUTHORIZED: 400004,
    HTTPStatus.FORBIDDEN: 403001,
    HTTPStatus.NOT_FOUND: 404001,
    HTTPStatus.METHOD_NOT_ALLOWED: 405001,
    HTTPStatus.UNPROCESSABLE_ENTITY: 422001,
    HTTPStatus.TOO_MANY_REQUESTS: 429001,
}


def is_ours(path: str) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in _PREFIXES)


def render(problem: ProblemError) -> JSONResponse:
    """Give an error as RunComfy words it, an unknown model as 400 400001."""
    status = problem.status
    if problem.code == "unknown_model":
        status, error_code = HTTPStatus.BAD_REQUEST, 400001
    else:
        error_code = _ERROR_CODES.get(HTTPStatus(status), status * 1000 + 1)
    body: dict[str, Any] = {"error_code": error_code, "error_message": problem.detail}
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        body["detail"] = _detail(problem)
    return JSONResponse(body, status_code=status, headers=problem.headers)


def _detail(problem: ProblemError) -> list[dict[str, Any]]:
    if name := problem.extra.get("parameter"):
        return [{"loc": ["query", name], "msg": problem.detail, "type": problem.code}]
    return [
        {"loc": ["body", *error.pointer.split("/")[1:]], "msg": error.detail, "type": error.code}
        for error in problem.errors
    ]
