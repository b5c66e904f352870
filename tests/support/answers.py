"""What every error answer must look like, and what is left of it to compare."""

import json
import re
from pathlib import Path
from typing import Any

import httpx

_URN = "urn:runcomfy-gateway:problem:"
_TYPE = "application/problem+json"
# Literal paths come before those with parameters, and ids of users may contain a slash.
_CALLS = [
    (re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace("{user_id}", ".+"))), calls)
    for path, calls in sorted(
        json.loads(Path("openapi/openapi.json").read_text())["paths"].items(),
        key=lambda item: item[0].count("{"),
    )
]


def problem(answer: httpx.Response) -> dict[str, Any]:
    """Check the shape that all problems share; return the rest: status, code, detail and more.

    `title` is left out too, since it follows from `code`.
    """
    assert answer.headers["Content-Type"] == _TYPE
    body: dict[str, Any] = answer.json()
    assert body.pop("type") == f"{_URN}{body['code']}"
    assert body.pop("title")
    assert body["status"] == answer.status_code
    assert body.pop("instance") == answer.request.url.path[:200]
    assert body.pop("request_id") == answer.headers["X-Request-Id"]
    assert _is_documented(body["code"], answer), body
    return body


def _is_documented(code: str, answer: httpx.Response) -> bool:
    """Return whether the OpenAPI document lists this code for the call, if it knows the call."""
    method, path = answer.request.method.lower(), answer.request.url.path
    for template, calls in _CALLS:
        if method in calls and template.fullmatch(path):
            answers = calls[method]["responses"]
            known = (answers[key] for key in (str(answer.status_code), "default") if key in answers)
            return any(code in each["content"][_TYPE]["examples"] for each in known)
    return True


def faults(answer: httpx.Response) -> list[tuple[str, str]]:
    """Return pointer and code of each fault that a 422 names."""
    body = problem(answer)
    assert body["status"] == 422, body
    assert all(error["detail"].endswith((".", "?")) for error in body["errors"])
    return [(error["pointer"], error["code"]) for error in body["errors"]]
