"""What is known about a request before any route sees it."""

import re
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers

from app.core.ids import new_id

READS = frozenset({"GET", "HEAD"})
"""The methods that change nothing."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def assign_request_id(scope: MutableMapping[str, Any]) -> str:
    """Use the caller's X-Request-Id if it is safe to log, else make one."""
    given = Headers(scope=scope).get("x-request-id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
    scope.setdefault("state", {})["request_id"] = request_id
    return request_id


def request_id_of(scope: MutableMapping[str, Any]) -> str:
    return str(scope["state"]["request_id"])
