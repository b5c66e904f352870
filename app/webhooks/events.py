"""The events that a receiver can be told of."""

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
"""What a job's own URL is told, and an endpoint that names no events."""


def event_of(state: str) -> EventType | None:
    """Give the event of a job's change to `state`; most changes inside the gateway are none."""
    name = f"{_PREFIX}{state}"
    return EventType(name) if name in set(EventType) else None


def state_of(event_type: str) -> str | None:
    """Give the state that a job entered with this event; None for an event of no job."""
    return event_type.removeprefix(_PREFIX) if event_type.startswith(_PREFIX) else None
