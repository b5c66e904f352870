"""Time zones for tests that count by the day and run in real time."""

from app.core.clock import SystemClock


def zone_at_noon() -> str:
    """Return a zone where it is noon now, so that no day or month ends while a test counts."""
    ahead = 12 - SystemClock().now().hour
    return f"Etc/GMT{-ahead:+}"  # whose sign is reversed
