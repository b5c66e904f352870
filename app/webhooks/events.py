"""The events that a receiver can subscribe to."""

from enum import StrEnum

_PREFIX = "job."


class EventType(StrEnum):
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    SUBMIT_UNKNOWN = "job.submit_unknown"
    IN_QUEUE = "job.in_queue"
    IN_PROGRESS = "job.in_progress"


TEST = "webhook.test"

DEFAULT_EVENTS = (
    EventType.COMPLETED,
    EventType.FAILED,
    EventType.CANCELLED,
    EventType.SUBMIT_UNKNOWN,
)
"""The events for a job's own URL, and for an endpoint that names none."""


def event_of(state: str) -> EventType | None:
    """Return the event of a job's change to `state`; None for most changes inside the gateway."""
    name = f"{_PREFIX}{state}"
    return EventType(name) if name in set(EventType) else None


def state_of(event_type: str) -> str | None:
    """Return the state that a job entered with this event; None if it is not about a job."""
    return event_type.removeprefix(_PREFIX) if event_type.startswith(_PREFIX) else None
