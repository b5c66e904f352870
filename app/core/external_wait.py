"""Time that a request spent waiting for others, which does not count as the gateway's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from app.core.clock import Clock


class Tally:
    """Seconds that the request of this context has waited elsewhere so far."""

    def __init__(self) -> None:
        self.seconds = 0.0


_current: ContextVar[Tally | None] = ContextVar("elsewhere", default=None)


@contextmanager
def tallied() -> Iterator[Tally]:
    """Count what is spent `elsewhere` inside, also in tasks that begin there."""
    tally = Tally()
    token = _current.set(tally)
    try:
        yield tally
    finally:
        _current.reset(token)


@contextmanager
def elsewhere(clock: Clock) -> Iterator[None]:
    """Mark a wait for somebody else; two of a request's at the same time would count twice."""
    began = clock.monotonic()
    try:
        yield
    finally:
        if tally := _current.get():
            tally.seconds += clock.monotonic() - began
