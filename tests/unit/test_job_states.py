"""The table of moves, and the changes that workers may ask for by it."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.jobs import outcomes
from app.jobs.models import Change, Lease, Watch
from app.jobs.state import (
    FOLLOWED,
    IN_FLIGHT,
    MOVES,
    TERMINAL,
    WATCHED,
    JobState,
    states_of,
)
from app.jobs.timing.durations import Phase
from app.quotas.policy import LimitName
from app.quotas.repository import COUNTED_STATES
from app.upstream.wire import Output

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
LATER = AT + timedelta(seconds=7)
OUTPUT: Output = {"video": "https://x.test/a.mp4"}


def sources_of(target: JobState) -> set[JobState]:
    return {source for source, targets in MOVES.items() if target in targets}


def lease(state: JobState, *, queue_position: int | None = None) -> Lease:
    sent = state in FOLLOWED
    return Lease(
        job_id="job_1",
        token="token_1",
        expires_at=AT + timedelta(seconds=30),
        state=state,
        model="m/x",
        attempts=1,
        upstream_request_id="req_1" if sent else None,
        queue_position=queue_position,
        cancel_requested_at=None,
        created_at=AT,
        submitted_at=AT if sent else None,
        started_at=AT if state is JobState.IN_PROGRESS else None,
    )


def test_nothing_leaves_a_terminal_state_but_a_late_success() -> None:
    for state in TERMINAL:
        assert MOVES[state] == (frozenset({JobState.COMPLETED}) if state in WATCHED else set())
    assert {state for state, targets in MOVES.items() if not targets} == {JobState.COMPLETED}
    assert set(MOVES) == set(JobState)


def test_limits_count_what_waits_here_and_what_may_be_at_upstream() -> None:
    assert set(COUNTED_STATES[LimitName.PENDING_JOBS]) == {JobState.PENDING}
    assert set(COUNTED_STATES[LimitName.CONCURRENT_JOBS]) == IN_FLIGHT


def test_nothing_leads_back_to_a_second_submit_but_what_was_surely_not_sent() -> None:
    assert sources_of(JobState.SUBMITTING) == {JobState.PENDING}
    assert sources_of(JobState.PENDING) == {JobState.SUBMITTING, JobState.SUBMIT_UNKNOWN}
    assert JobState.SUBMITTING not in MOVES[JobState.SUBMIT_UNKNOWN]


def test_every_state_can_be_reached_and_every_live_one_can_end() -> None:
    reached = {JobState.PENDING}
    while more := {target for state in reached for target in MOVES[state]} - reached:
        reached |= more
    assert reached == set(JobState)
    for state in set(JobState) - TERMINAL:
        assert MOVES[state]


def test_what_upstream_may_have_is_in_flight() -> None:
    assert set(JobState) - TERMINAL - {JobState.PENDING} == IN_FLIGHT
    assert IN_FLIGHT > FOLLOWED


def test_clients_see_no_submitting() -> None:
    assert states_of("pending") == {JobState.PENDING, JobState.SUBMITTING}
    assert states_of("submitting") == set()
    assert states_of("in_queue") == {JobState.IN_QUEUE}


@pytest.mark.parametrize(("source", "target"), list(itertools.product(FOLLOWED, FOLLOWED)))
def test_progress_never_goes_back(source: JobState, target: JobState) -> None:
    forward = (source, target) == (JobState.IN_QUEUE, JobState.IN_PROGRESS)
    assert outcomes.is_news(lease(source), target, None) == forward


def test_who_begins_to_run_has_started() -> None:
    change = outcomes.progressed(
        lease(JobState.IN_QUEUE),
        state=JobState.IN_PROGRESS,
        queue_position=None,
        due_at=LATER,
        at=AT,
    )
    assert (change.state, change.started_at) == (JobState.IN_PROGRESS, AT)
    assert change.due_at == LATER


def test_a_new_position_is_news_and_the_same_one_is_none() -> None:
    queued = lease(JobState.IN_QUEUE, queue_position=3)
    assert not outcomes.is_news(queued, JobState.IN_QUEUE, 3)
    assert outcomes.is_news(queued, JobState.IN_QUEUE, 2)
    change = outcomes.progressed(
        queued, state=JobState.IN_QUEUE, queue_position=2, due_at=LATER, at=AT
    )
    assert (change.state, change.queue_position) == (JobState.IN_QUEUE, 2)
    assert change.note is None


def test_a_running_job_that_upstream_knows_again_has_not_begun_anew() -> None:
    lost = replace(lease(JobState.IN_PROGRESS), lost_polls=1, lost_since=AT)
    change = outcomes.postponed(lost, due_at=LATER, at=LATER)
    assert (change.started_at, change.lost_polls, change.lost_since) == (AT, 0, None)


def test_an_end_lets_go_of_the_job() -> None:
    running = lease(JobState.IN_PROGRESS)
    for change in (
        outcomes.completed(running, output=OUTPUT, charges_late=True, at=LATER),
        outcomes.failed(running, code="failed_upstream", message="no", at=LATER),
    ):
        assert change.state in TERMINAL
        assert change.finished_at == LATER
        assert change.due_at is None
        assert change.lease_token is None
        assert change.lease_expires_at is None
        assert change.upstream_request_id == "req_1"


def test_an_end_without_upstreams_word_is_watched_by_who_had_the_job() -> None:
    running = lease(JobState.IN_PROGRESS)
    watch = Watch(until=LATER + timedelta(hours=1), due_at=LATER + timedelta(seconds=2))
    for change in (
        outcomes.given_up(running, error=outcomes.TIMED_OUT, watch=watch, at=LATER),
        outcomes.given_up(running, error=outcomes.UPSTREAM_LOST, watch=watch, at=LATER),
        outcomes.cancelled(running, watch=watch, at=LATER),
    ):
        assert change.state in WATCHED
        assert (change.finished_at, change.cost_state) == (LATER, "released")
        assert (change.due_at, change.watch_until) == (watch.due_at, watch.until)
        assert (change.lease_token, change.lease_expires_at) == ("token_1", running.expires_at)


@pytest.mark.parametrize("state", sorted(WATCHED))
def test_a_late_success_touches_no_hold(state: JobState) -> None:
    watched = replace(
        lease(state),
        upstream_request_id="req_1",
        finished_at=AT,
        watch_until=LATER,
        cost_state="released",
    )
    change = outcomes.completed(watched, output=OUTPUT, charges_late=True, at=LATER)
    assert (change.state, change.late, change.cost_state) == (JobState.COMPLETED, "charged", None)
    assert (change.finished_at, change.due_at, change.watch_until) == (LATER, None, None)
    over = outcomes.unwatched(watched, at=LATER)
    assert (over.due_at, over.lease_token, over.lease_expires_at) == (None, None, None)
    for each in (change, over):
        assert outcomes.observed(each) == [], "it was looked at too seldom"


def test_how_long_upstream_took_is_learned_from_its_own_word() -> None:
    running = replace(
        lease(JobState.IN_PROGRESS), submitted_at=AT - timedelta(seconds=3), started_at=AT
    )
    queued = lease(JobState.IN_QUEUE)
    watch = Watch(until=LATER, due_at=LATER)

    def took(change: Change) -> dict[Phase, float]:
        return {each.kind.phase: each.seconds for each in outcomes.observed(change)}

    for of, learned in (
        (running, {Phase.RUN: 7}),
        (queued, {Phase.QUEUE: 3.5, Phase.RUN: 3.5}),
    ):
        for end in (
            outcomes.completed(of, output=OUTPUT, charges_late=True, at=LATER),
            outcomes.failed(of, code="failed_upstream", message="no", at=LATER),
        ):
            assert took(end) == learned
        assert took(outcomes.cancelled(of, watch=watch, at=LATER)) == {}
        given_up = outcomes.given_up(of, error=outcomes.TIMED_OUT, watch=watch, at=LATER)
        assert took(given_up) == {}
    begun = outcomes.progressed(
        queued, state=JobState.IN_PROGRESS, queue_position=None, due_at=LATER, at=LATER
    )
    assert took(begun) == {Phase.QUEUE: 7}


def test_an_unknown_outcome_keeps_the_token_of_its_attempt() -> None:
    change = outcomes.outcome_unknown(lease(JobState.SUBMITTING), reason="silence", at=AT)
    assert change.lease_token == "token_1"
    assert change.due_at is None
    assert change.finished_at is None


def test_an_attempt_that_was_not_accepted_gives_everything_back() -> None:
    change = outcomes.not_accepted(lease(JobState.SUBMITTING), reason="later", due_at=LATER, at=AT)
    assert (change.state, change.due_at) == (JobState.PENDING, LATER)
    assert (change.lease_token, change.lease_expires_at) == (None, None)


@pytest.mark.parametrize(
    "state", sorted(set(JobState) - sources_of(JobState.FAILED) - {JobState.FAILED})
)
def test_a_move_outside_the_table_cannot_even_be_asked_for(state: JobState) -> None:
    with pytest.raises(AssertionError):
        outcomes.failed(lease(state), code="x", message="x", at=AT)
