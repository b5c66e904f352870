"""A job as its owner sees it, as a worker holds it, and a change that a worker asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any, Literal

from app.jobs.state import TERMINAL, JobState
from app.quotas.policy import Policy
from app.storage.job_files import FileUse
from app.upstream.accounts import DEFAULT
from app.upstream.wire import OUTPUT_KEYS, Output

CostState = Literal["held", "settled", "released"]
LateCharge = Literal["charged", "free"]


def output_urls(output: Output | None) -> list[str]:
    """Return upstream's own URLs, in the order of their numbers; none without an output."""
    urls: list[str] = []
    for key in OUTPUT_KEYS:
        value = (output or {}).get(key, [])
        urls += [value] if isinstance(value, str) else value
    return urls


class Priority(IntEnum):
    """In the order in which jobs start; stored as a number."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job stands in its user's line, counted from 1, and what moves that line."""

    position: int
    in_flight: int
    is_paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`output` holds upstream's own URLs and never leaves the gateway as it is.

    `late` is set if the job succeeded after it had ended, and says whether that was charged. Only
    a job that waits here has a `place`, as of when it was read. The owner's cancel clears
    `start_deadline_at`.
    """

    id: str
    user_id: str
    model: str
    schema_hash: str
    input: dict[str, Any]
    metadata: dict[str, str]
    output_seconds: Decimal | None
    input_class: str
    priority: int
    price_usd: Decimal | None
    cost_state: CostState
    state: JobState
    event_seq: int
    queue_position: int | None = None
    output: Output | None = None
    error: dict[str, Any] | None = None
    cancel_requested_at: datetime | None = None
    cancel_outcome: str | None = None
    created_at: datetime
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    late: LateCharge | None = None
    traceparent: str | None = None
    start_deadline_at: datetime | None = None
    place: Place | None = None

    @property
    def is_called_off(self) -> bool:
        """Whether it was cancelled for not being in progress by its deadline."""
        deadline = self.start_deadline_at
        if self.state is not JobState.CANCELLED or deadline is None or self.finished_at is None:
            return False
        was_late = self.started_at is None or self.started_at > deadline
        return was_late and self.finished_at >= deadline

    def as_of(self, state: JobState, *, at: datetime) -> "Job":
        """Return the job as it was when it entered `state`, as far as that is still known."""
        is_final = state in TERMINAL
        is_started = is_final or state is JobState.IN_PROGRESS
        is_sent = is_started or state is JobState.IN_QUEUE
        return replace(
            self,
            state=state,
            cost_state=self.cost_state if is_final else "held",
            queue_position=None,
            output=None,
            error=None,
            submitted_at=_unless_later(self.submitted_at, at) if is_sent else None,
            started_at=_unless_later(self.started_at, at) if is_started else None,
            finished_at=at if is_final else None,
            late=None,
            place=None,
        )


def _unless_later(instant: datetime | None, at: datetime) -> datetime | None:
    return None if instant is None or instant > at else instant


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    states: frozenset[JobState] | None = None
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A checked request on its way into the database."""

    id: str
    user_id: str
    key_id: str
    model: str
    schema_hash: str
    input: dict[str, Any]
    metadata: dict[str, str]
    webhook_url: str | None
    output_seconds: Decimal | None
    input_class: str
    price_usd: Decimal | None
    policy: Policy
    priority: Priority
    start_deadline_at: datetime | None
    created_at: datetime
    idempotency_key: str | None
    fingerprint: str
    traceparent: str | None = None
    files: Sequence[FileUse] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A job in a worker's hands, whose writes count only while the row still holds `token`.

    A watched job has ended, at `finished_at`, but may still succeed. `lost_polls` is how many polls
    in a row, since `lost_since`, found that upstream knows no such request.
    """

    job_id: str
    token: str
    expires_at: datetime
    state: JobState
    model: str
    attempts: int
    upstream_request_id: str | None
    queue_position: int | None
    cancel_requested_at: datetime | None
    created_at: datetime
    submitted_at: datetime | None
    started_at: datetime | None
    account: str = DEFAULT
    input_class: str = ""
    finished_at: datetime | None = None
    watch_until: datetime | None = None
    cost_state: CostState = "held"
    lost_polls: int = 0
    lost_since: datetime | None = None
    refusals: int = 0
    traceparent: str | None = None

    @property
    def request_id(self) -> str:
        """Upstream's id for the job; only for jobs that upstream has."""
        assert self.upstream_request_id is not None
        return self.upstream_request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How to watch a failed or cancelled job that may still succeed."""

    until: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The right to send one submit, until `covered_until` on this process's monotonic clock."""

    lease: Lease
    input: dict[str, Any]
    covered_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a worker learned about the job it holds; the same state again makes no event.

    `note` goes to the event log; every other field is the row's new value, although without a new
    state a job keeps what ended it.
    """

    lease: Lease
    at: datetime
    state: JobState
    due_at: datetime | None
    lease_token: str | None
    lease_expires_at: datetime | None
    upstream_request_id: str | None
    queue_position: int | None
    submitted_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None = None
    output: Output | None = None
    error: dict[str, Any] | None = None
    cancel_outcome: str | None = None
    cost_state: CostState | None = None
    reported_cost_usd: Decimal | None = None
    detection_delay: timedelta | None = None
    late: LateCharge | None = None
    refusals: int = 0
    lost_polls: int = 0
    lost_since: datetime | None = None
    watch_until: datetime | None = None
    note: dict[str, Any] | None = None
