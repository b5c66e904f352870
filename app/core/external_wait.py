"""Time that a request waits for others, which does not count as the gateway's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from app.core.clock import Clock


class ExternalWaits:
    """Seconds that the request of this context has waited for others so far."""

    def __init__(self) -> None:
        self.seconds = 0.0


_current: ContextVar[ExternalWaits | None] = ContextVar("external_waits", default=None)


@contextmanager
def counted_external_waits() -> Iterator[ExternalWaits]:
    """Count each `external_wait` inside, also in tasks that begin there."""
    waits = ExternalWaits()
    token = _current.set(waits)
    try:
        yield waits
    finally:
        _current.reset(token)


@contextmanager
def external_wait(clock: Clock) -> Iterator[None]:
    """Mark a wait for somebody else; where two of a request overlap, the time counts twice."""
    began = clock.monotonic()
    try:
        yield
    finally:
        if waits := _current.get():
            waits.seconds += clock.monotonic() - began
