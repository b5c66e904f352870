"""Instants as clients read and write them."""

from datetime import UTC, datetime


def rfc3339(at: datetime) -> str:
    """Write an aware instant in UTC, with milliseconds and a Z (RFC 3339)."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
