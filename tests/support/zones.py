"""Zones of time for tests that count by the day and run in real time."""

from app.core.clock import SystemClock


def zone_at_noon() -> str:
    """Give a zone where it is noon just now: no day or month turns while a test counts."""
    ahead = 12 - SystemClock().now().hour
    return f"Etc/GMT{-ahead:+}"  # whose sign is the other way round
