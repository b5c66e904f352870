"""When to try again, as a pure function: the retries of Standard Webhooks, over a day."""

from datetime import timedelta

LADDER = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=10),
)
_SPREAD = 0.1


def retry_delay(
    step: int, *, jitter: float, retry_after: timedelta | None = None
) -> timedelta | None:
    """Return how long to wait after the attempt on `step`, counted from 0; None after the last.

    `jitter` in [0, 1) adds up to a tenth, so that a receiver that recovers does not get all at
    once. One that says when to come back is obeyed, up to the longest of these waits.
    """
    if step >= len(LADDER):
        return None
    wait = LADDER[step] * (1 + _SPREAD * jitter)
    return max(wait, min(retry_after or timedelta(), max(LADDER)))
