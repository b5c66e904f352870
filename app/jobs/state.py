"""The life of a job as a table, the only one: SQL, API and tests all read it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, cast

Status = Literal[
    "pending", "in_queue", "in_progress", "completed", "failed", "cancelled", "submit_unknown"
]


class JobState(StrEnum):
    PENDING = "pending"  # durable here, not yet sent
    SUBMITTING = "submitting"  # one attempt may be on its way; clients see `pending`
    IN_QUEUE = "in_queue"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"  # there is an output
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUBMIT_UNKNOWN = "submit_unknown"  # perhaps sent; never sent again automatically

    @property
    def status(self) -> Status:
        """The word that clients read."""
        return "pending" if self is JobState.SUBMITTING else cast("Status", self.value)


_S = JobState

MOVES: Mapping[JobState, frozenset[JobState]] = {
    _S.PENDING: frozenset({_S.SUBMITTING, _S.CANCELLED, _S.FAILED}),  # failed: by an operator
    _S.SUBMITTING: frozenset({_S.PENDING, _S.IN_QUEUE, _S.FAILED, _S.SUBMIT_UNKNOWN}),
    _S.IN_QUEUE: frozenset({_S.IN_PROGRESS, _S.COMPLETED, _S.FAILED, _S.CANCELLED}),
    _S.IN_PROGRESS: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    # A late success of a job that was given up or cancelled.
    _S.FAILED: frozenset({_S.COMPLETED}),
    _S.CANCELLED: frozenset({_S.COMPLETED}),
    # By an operator or an outcome that came late; automatically only after hours.
    _S.SUBMIT_UNKNOWN: frozenset({_S.IN_QUEUE, _S.PENDING, _S.FAILED}),
}

TERMINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})
UNFINISHED = tuple(state for state in JobState if state not in TERMINAL)
FOLLOWED = frozenset({_S.IN_QUEUE, _S.IN_PROGRESS})
WATCHED = frozenset({_S.FAILED, _S.CANCELLED})  # still polled for a while, if due
IN_FLIGHT = frozenset({_S.SUBMITTING, _S.SUBMIT_UNKNOWN}) | FOLLOWED


def states_of(status: str) -> frozenset[JobState]:
    """Return the states that clients see as `status`; none for an unknown word."""
    return frozenset(state for state in JobState if state.status == status)
