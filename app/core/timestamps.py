"""Instants as clients read and write them."""

from datetime import UTC, datetime
from typing import Any


def rfc3339(at: datetime) -> str:
    """Write an aware instant in UTC, with milliseconds and a Z (RFC 3339)."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(value: Any) -> datetime | None:
    """Read a time that names its zone, and return it in UTC; None for all else."""
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
