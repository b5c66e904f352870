"""What every error answer must look like, and what is left of it to compare."""

import json
import re
from pathlib import Path
from typing import Any

import httpx

_URN = "urn:runcomfy-gateway:problem:"
_TYPE = "application/problem+json"
# What is written out goes before what a parameter stands for, and ids of users have a slash.
_CALLS = [
    (re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace("{user_id}", ".+"))), calls)
    for path, calls in sorted(
        json.loads(Path("openapi/openapi.json").read_text())["paths"].items(),
        key=lambda item: item[0].count("{"),
    )
]


def problem(answer: httpx.Response) -> dict[str, Any]:
    """Check the shape that all problems share; returns the rest: status, code, title, detail, more.

    `title` is left out too: it goes with `code`.
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
    """Tell whether the OpenAPI document has this among the answers to the call, if it is one."""
    method, path = answer.request.method.lower(), answer.request.url.path
    for template, calls in _CALLS:
        if method in calls and template.fullmatch(path):
            answers = calls[method]["responses"]
            told = (answers[key] for key in (str(answer.status_code), "default") if key in answers)
            return any(code in each["content"][_TYPE]["examples"] for each in told)
    return True


def faults(answer: httpx.Response) -> list[tuple[str, str]]:
    """Return pointer and code of each fault that a 422 names."""
    body = problem(answer)
    assert body["status"] == 422, body
    assert all(error["detail"].endswith((".", "?")) for error in body["errors"])
    return [(error["pointer"], error["code"]) for error in body["errors"]]
