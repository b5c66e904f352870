"""When to look at a job again, as pure functions of its age."""

from collections.abc import Callable
from datetime import timedelta

Jitter = Callable[[], float]
"""Gives a number in [0, 1): `random.random`, or what a test decides."""

_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(seconds=15)


def poll_delay(age: timedelta, *, jitter: float) -> timedelta:
    """Wait a tenth of the job's age, between 1 and 15 s; `jitter` in [0, 1) spreads it by 10%."""
    return min(max(age / 10, _SHORTEST), _LONGEST) * (0.9 + 0.2 * jitter)


def retry_delay(attempt: int, *, jitter: float) -> timedelta:
    """Wait before submit `attempt` + 1: doubling from 1 s to a minute, spread by half."""
    return timedelta(seconds=min(60.0, 2.0 ** min(attempt - 1, 6))) * (0.5 + jitter)
