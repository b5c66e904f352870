"""What every error answer must look like, and what is left of it to compare."""

from typing import Any

import httpx

_URN = "urn:runcomfy-gateway:problem:"


def problem(answer: httpx.Response) -> dict[str, Any]:
    """Check the shape that all problems share; gives the rest: status, code, title, detail, more.

    `title` is left out too: it goes with `code`.
    """
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.pop("type") == f"{_URN}{body['code']}"
    assert body.pop("title")
    assert body["status"] == answer.status_code
    assert body.pop("instance") == answer.request.url.path[:200]
    assert body.pop("request_id") == answer.headers["X-Request-Id"]
    return body


def faults(answer: httpx.Response) -> list[tuple[str, str]]:
    """Give pointer and code of each fault that a 422 names."""
    body = problem(answer)
    assert body["status"] == 422, body
    assert all(error["detail"].endswith((".", "?")) for error in body["errors"])
    return [(error["pointer"], error["code"]) for error in body["errors"]]
