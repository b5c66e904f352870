"""What was received and accepted, and where a request stands at any instant.

The latter is a pure function of the record and the time, so a restart forgets nothing.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.sandbox.scenarios import Script


class Stage(StrEnum):
    IN_QUEUE = "in_queue"
    IN_PROGRESS = "in_progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in {Stage.IN_QUEUE, Stage.IN_PROGRESS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A submit as it arrived; without a `request_id` it was not accepted.

    Of its headers only the names are kept: enough to see that nothing leaked.
    """

    received_at: datetime
    model_id: str
    input: Any
    headers: list[str]
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`queue` and `progress` are seconds, infinite for a job that is stuck."""

    request_id: str
    model_id: str
    input: Mapping[str, Any]
    created_at: datetime
    queue: float
    progress: float
    cancelled_at: datetime | None = None
    status_calls: int = 0
    result_calls: int = 0
    cancel_calls: int = 0

    def stage_at(self, now: datetime, *, script: Script, speed: float) -> Stage:
        undone_after = script.number("cancel-undone", float("inf")) / speed
        if self._is_cancelled(now, undone_after=undone_after):
            return Stage.CANCELLED
        if self.since_end(now) >= 0:
            return Stage.FAILED if "fail" in script else Stage.SUCCEEDED
        return Stage.IN_QUEUE if self.age(now) < self.queue else Stage.IN_PROGRESS

    def age(self, now: datetime) -> float:
        # Never negative: the clock of a restarted machine may have stepped back.
        return max(0.0, (now - self.created_at).total_seconds())

    def since_end(self, now: datetime) -> float:
        """Count the seconds since the work ended by itself; negative before."""
        return self.age(now) - self.queue - self.progress

    def finished_at(self, stage: Stage) -> datetime:
        """Return when this terminal stage began."""
        if stage is Stage.CANCELLED and self.cancelled_at is not None:
            return self.cancelled_at
        return self.created_at + timedelta(seconds=self.queue + self.progress)

    def jobs_ahead(self, now: datetime) -> int:
        """Count down from three while the queue moves; a stuck queue does not."""
        return 3 if self.queue == float("inf") else int(3 * (1 - self.age(now) / self.queue))

    def _is_cancelled(self, now: datetime, *, undone_after: float) -> bool:
        """Return whether a cancel came before the end, and still counts."""
        at = self.cancelled_at
        if at is None or self.since_end(at) >= 0:
            return False
        return 0 <= (now - at).total_seconds() < undone_after


def draw_times(script: Script, *, draw: random.Random, speed: float) -> tuple[float, float]:
    """Decide how long a job queues and works, in seconds of the clock."""
    if "instant" in script:
        return 0.0, 0.0
    queue = script.number("queue", draw.uniform(1, 3))
    progress = script.number("slow", draw.uniform(4, 8))
    return (
        float("inf") if "stuck-in-queue" in script else queue / speed,
        float("inf") if "stuck" in script else progress / speed,
    )
