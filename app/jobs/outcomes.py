"""What each answer from upstream means for a job, as pure functions from a lease to a change."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from app.jobs.models import Change, LateCharge, Lease, Watch
from app.jobs.state import FOLLOWED, MOVES, TERMINAL, JobState
from app.jobs.timing.durations import Kind, Observation, Phase
from app.upstream.wire import Output

CANCELLED_LOCALLY = "cancelled_locally"
CANCELLED_UPSTREAM = "cancelled_upstream"
NOT_CANCELLABLE = "not_cancellable"

FAILED_UPSTREAM = "failed_upstream"
NO_OUTPUT = "no_output"
_ENDED_UPSTREAM = frozenset({FAILED_UPSTREAM, NO_OUTPUT})
# The error of a job that was cancelled at its `start_deadline_at`.
NOT_STARTED = {
    "code": "not_started_in_time",
    "message": "The job was not in progress within its `start_within_seconds`.",
}
# The time that we give a job is up.
TIMED_OUT = {
    "code": "timed_out",
    "message": "RunComfy did not finish this job in time; if it still does, the result comes late.",
}
# Upstream has said for minutes that it does not know the request.
UPSTREAM_LOST = {"code": "upstream_lost", "message": "RunComfy no longer knows this job."}


def accepted(
    lease: Lease,
    *,
    request_id: str,
    poller: str,
    expires_at: datetime,
    due_at: datetime,
    at: datetime,
) -> Change:
    """Upstream took the job; the poller named `poller` follows it from now on."""
    return _change(
        lease,
        JobState.IN_QUEUE,
        at=at,
        upstream_request_id=request_id,
        submitted_at=at,
        due_at=due_at,
        lease_token=poller,
        lease_expires_at=expires_at,
        note={"upstream_request_id": request_id},
    )


def not_accepted(
    lease: Lease, *, reason: str, due_at: datetime, at: datetime, refusals: int | None = None
) -> Change:
    """Upstream certainly does not have the job; it may be sent again from `due_at` on."""
    return _change(
        lease,
        JobState.PENDING,
        at=at,
        due_at=due_at,
        lease_token=None,
        lease_expires_at=None,
        refusals=lease.refusals if refusals is None else refusals,
        note={"reason": reason},
    )


def outcome_unknown(lease: Lease, *, reason: str, at: datetime) -> Change:
    """Nobody knows whether upstream has the job; the row keeps the token of the attempt."""
    return _change(lease, JobState.SUBMIT_UNKNOWN, at=at, due_at=None, note={"reason": reason})


def failed(lease: Lease, *, code: str, message: str, at: datetime) -> Change:
    error = {"code": code, "message": message}
    return _final(lease, JobState.FAILED, at=at, error=error, note={"code": code})


def given_up(lease: Lease, *, error: dict[str, Any], watch: Watch, at: datetime) -> Change:
    """Fail a job that upstream may still finish: nothing is cancelled, and polling goes on."""
    return _final(
        lease, JobState.FAILED, at=at, error=error, note={"code": error["code"]}, watch=watch
    )


def unwatched(lease: Lease, *, at: datetime) -> Change:
    """A watched job will not succeed any more."""
    return _change(
        lease,
        lease.state,
        at=at,
        due_at=None,
        watch_until=None,
        lease_token=None,
        lease_expires_at=None,
    )


def completed(lease: Lease, *, output: Output, charges_late: bool, at: datetime) -> Change:
    """The job has succeeded; a watched one's hold has already ended, and stays as it ended."""
    late: LateCharge | None = None
    if lease.finished_at is not None:
        late = "charged" if charges_late and lease.cost_state == "released" else "free"
    return _final(
        lease,
        JobState.COMPLETED,
        at=at,
        output=output,
        submitted_at=lease.submitted_at or at,
        started_at=lease.started_at or at,
        cost_state=None if late else "settled",
        late=late,
        note={"late": True} if late else None,
    )


def cancelled(lease: Lease, *, watch: Watch, at: datetime) -> Change:
    """Upstream says so; but it may finish the job after all, so the job is watched."""
    return _final(lease, JobState.CANCELLED, at=at, cancel_outcome=CANCELLED_UPSTREAM, watch=watch)


def is_news(lease: Lease, state: JobState, queue_position: int | None) -> bool:
    """Whether the job has moved on upstream; it never moves back."""
    if state is lease.state:
        return queue_position != lease.queue_position
    return state in MOVES[lease.state]


def progressed(
    lease: Lease, *, state: JobState, queue_position: int | None, due_at: datetime, at: datetime
) -> Change:
    """Note how far upstream has got with the job."""
    started_at = lease.started_at or (at if state is JobState.IN_PROGRESS else None)
    return _change(
        lease, state, at=at, queue_position=queue_position, started_at=started_at, due_at=due_at
    )


def not_cancellable(lease: Lease, *, seen: Change | None, due_at: datetime, at: datetime) -> Change:
    """Upstream refused to cancel: the job runs on, in the state `seen` right afterwards."""
    runs_on = seen or postponed(lease, due_at=due_at, at=at)
    return replace(runs_on, cancel_outcome=NOT_CANCELLABLE)


def postponed(lease: Lease, *, due_at: datetime, at: datetime) -> Change:
    """Change only when to look next; the count of polls that found no such request restarts."""
    return _change(lease, lease.state, at=at, due_at=due_at)


def record_unknown(lease: Lease, *, due_at: datetime, at: datetime) -> Change:
    """Upstream says that it does not know the request; count how often and since when."""
    return _change(
        lease,
        lease.state,
        at=at,
        due_at=due_at,
        lost_polls=lease.lost_polls + 1,
        lost_since=lease.lost_since or at,
    )


def observed(change: Change) -> list[Observation]:
    """Return how long each phase took that has just ended, if upstream ended it."""
    lease, state = change.lease, change.state
    error_code = change.error["code"] if change.error else None
    is_end = state is JobState.COMPLETED or error_code in _ENDED_UPSTREAM
    if lease.state not in FOLLOWED or not (is_end or state is JobState.IN_PROGRESS):
        return []
    spans: dict[Phase, timedelta] = {}
    if lease.state is JobState.IN_PROGRESS:
        spans[Phase.RUN] = change.at - (lease.started_at or change.at)
    else:
        waited = change.at - (lease.submitted_at or change.at)
        # A job that was never seen running is assumed to have run for half of its time.
        spans = (
            {Phase.QUEUE: waited / 2, Phase.RUN: waited / 2} if is_end else {Phase.QUEUE: waited}
        )
    return [
        Observation(Kind.of(phase, lease.model, lease.input_class), max(span.total_seconds(), 0.0))
        for phase, span in spans.items()
    ]


def _final(
    lease: Lease, state: JobState, *, at: datetime, watch: Watch | None = None, **new: Any
) -> Change:
    """End a job; if it is watched, it stays with the worker that has it."""
    assert state in TERMINAL
    usual: dict[str, Any] = {
        "queue_position": None,
        "due_at": watch.due_at if watch else None,
        "watch_until": watch.until if watch else None,
        "lease_token": lease.token if watch else None,
        "lease_expires_at": lease.expires_at if watch else None,
        "cost_state": "released",
    }
    return _change(lease, state, at=at, finished_at=at, **(usual | new))


def _change(lease: Lease, state: JobState, *, at: datetime, **new: Any) -> Change:
    assert state is lease.state or state in MOVES[lease.state], (lease.state, state)
    assert state not in FOLLOWED or new["due_at"] is not None
    kept: dict[str, Any] = {
        "lease_token": lease.token,
        "lease_expires_at": lease.expires_at,
        "upstream_request_id": lease.upstream_request_id,
        "queue_position": lease.queue_position,
        "submitted_at": lease.submitted_at,
        "started_at": lease.started_at,
        "watch_until": lease.watch_until,
        "refusals": lease.refusals,
    }
    return Change(lease=lease, at=at, state=state, **(kept | new))
