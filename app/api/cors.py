"""Which pages of other origins may read our responses (CORS, as in the Fetch standard).

Inside our own middleware, Starlette's would leave 500s without its headers; outside, its own
responses would lack ours. So our middleware calls these functions instead.
Credentials are never allowed: keys and tokens come in a header that the page sets.
"""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Scope

_API, _ADMIN = "/v1/", "/v1/admin"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS = (
    *("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "If-Range"),
    *("Last-Event-ID", "Prefer", "Range", "Traceparent", "Tracestate"),
    *("X-Gateway-User", "X-Request-Id"),
)
_RESPONSE_HEADERS = (
    *("Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Idempotency-Replayed"),
    *("Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After"),
    *("Server-Timing", "X-Request-Id"),
)
_MAX_AGE_S = 7200  # the longest that browsers cache a preflight


class Cors:
    """`origins` are spelled as browsers send them; without any, no CORS headers are sent."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    def preflight(self, scope: Scope) -> Response | None:
        """Answer an allowed preflight; None for every other request."""
        if scope["method"] != "OPTIONS":
            return None
        headers = Headers(scope=scope)
        is_asking = "access-control-request-method" in headers
        if not (is_asking and self._is_allowed(scope, headers)):
            return None
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": ", ".join(_REQUEST_HEADERS),
                "Access-Control-Max-Age": str(_MAX_AGE_S),
            },
        )

    def add_headers(self, message: Message, scope: Scope) -> None:
        """Add the headers that let the requesting page read the response."""
        if not (self._origins and _is_open(scope)):
            return
        answer = MutableHeaders(scope=message)
        answer.add_vary_header("Origin")  # caches must not give one page's response to another
        headers = Headers(scope=scope)
        if self._is_allowed(scope, headers):
            answer["Access-Control-Allow-Origin"] = headers["origin"]
            answer["Access-Control-Expose-Headers"] = ", ".join(_RESPONSE_HEADERS)

    def _is_allowed(self, scope: Scope, headers: Headers) -> bool:
        return headers.get("origin") in self._origins and _is_open(scope)


def _is_open(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith(_API) and path != _ADMIN and not path.startswith(f"{_ADMIN}/")
