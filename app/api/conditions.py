"""Conditional requests: whether the caller already has what would be sent."""

from fastapi import Request

from app.api.deps import header_of

CONDITION = {"If-None-Match": "Answer 304 if this `ETag` is still the current one."}
"""What `caller_has` reads, for the OpenAPI document."""


def caller_has(request: Request, etag: str | None) -> bool:
    """Compare weakly, as If-None-Match does (RFC 9110, 13.1.2)."""
    asked = header_of(request, "If-None-Match")
    if etag is None or asked is None:
        return False
    known = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
    return bool(known & {etag.removeprefix("W/"), "*"})
