"""Workers that stalled past their lease: what they bring is not lost, and undoes nobody's work."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.db.engine import open_database
from app.db.models import JobRow
from app.events import log
from app.events.log import JobEvent
from app.jobs import outcomes
from app.jobs.models import Attempt
from app.jobs.state import JobState
from app.upstream.errors import NotSentError
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.invariants import event_types, read_jobs


@pytest.fixture
async def rival(database_url: str, sandbox: Sandbox, clock: ManualClock) -> AsyncIterator[Gateway]:
    async with running(database_url, sandbox=sandbox, clock=clock) as running_one:
        yield running_one


async def row_of(database_url: str, job: Mapping[str, Any]) -> Any:
    row, _ = (await read_jobs(database_url))[job["id"]]
    return row


async def sent(gateway: Gateway, words: str = "") -> tuple[dict[str, Any], Attempt, str]:
    """Send a job whose request id its worker has yet to record."""
    job = await gateway.submit(words)
    [attempt] = await gateway.workers.dispatcher.claim(32)
    return job, attempt, await gateway.workers.dispatcher.send(attempt)


async def test_a_poll_that_outlived_its_lease_does_not_count(
    gateway: Gateway, rival: Gateway, database_url: str
) -> None:
    """Even when the job is in the very state in which the slow poller found it."""
    job = await gateway.submit("sandbox:stuck-in-queue sandbox:no-position")
    await gateway.dispatch()
    gateway.wait(2)
    [lease] = await gateway.workers.poller.claim(64)
    gateway.wait(31)
    assert await rival.poll() == 1

    stale = outcomes.failed(lease, code="failed_upstream", message="", at=gateway.clock.now())
    assert await gateway.workers.recorder.record(stale) is False
    assert (await gateway.read(job))["status"] == "in_queue"
    assert (await event_types(database_url, job))[-1] == "in_queue"


async def test_an_end_that_a_rival_wrote_first_is_measured_by_the_rival_alone(
    gateway: Gateway, rival: Gateway
) -> None:
    await gateway.submit("sandbox:instant")
    await gateway.dispatch()
    gateway.wait(2)
    [lease] = await gateway.workers.poller.claim(64)
    gateway.wait(31)
    assert await rival.poll() == 1
    await gateway.workers.poller.poll(lease)
    slow, quick = [(await each.http.get("/metrics")).text for each in (gateway, rival)]
    assert 'gateway_lease_losses_total{work="job"} 1.0' in slow
    assert "gateway_detection_delay_seconds_count 0.0" in slow
    assert "gateway_detection_delay_seconds_count 1.0" in quick


async def test_an_outcome_against_another_state_does_not_count(
    gateway: Gateway, database_url: str
) -> None:
    """One poller, two answers: the one that was asked for earlier comes later."""
    job = await gateway.submit("sandbox:stuck")
    await gateway.dispatch()
    gateway.wait(2)
    [early] = await gateway.workers.poller.claim(64)
    gateway.wait(5)
    assert await gateway.poll() == 1
    assert (await gateway.read(job))["status"] == "in_progress"

    at = gateway.clock.now()
    news = outcomes.progressed(early, state=JobState.IN_QUEUE, queue_position=7, due_at=at, at=at)
    assert await gateway.workers.recorder.record(news) is False
    assert (await gateway.read(job))["queue_position"] is None
    assert (await event_types(database_url, job))[-2:] == ["in_queue", "in_progress"]


async def test_a_request_id_that_comes_after_the_sweep_is_adopted(
    gateway: Gateway, rival: Gateway, sandbox: Sandbox, database_url: str
) -> None:
    job, attempt, request_id = await sent(gateway)
    gateway.wait(31)
    await rival.dispatch()
    assert (await rival.read(job))["status"] == "submit_unknown"

    await gateway.workers.dispatcher.follow(attempt.lease, request_id)
    done = await rival.follow(job)
    assert done["status"] == "completed"
    assert len(await sandbox.submits(job)) == 1
    assert (await event_types(database_url, job))[:4] == [
        "pending",
        "submitting",
        "submit_unknown",
        "in_queue",
    ]


async def test_an_adopted_job_carries_out_the_cancel_that_waited(
    gateway: Gateway, rival: Gateway
) -> None:
    job, attempt, request_id = await sent(gateway, "sandbox:stuck-in-queue")
    asked = await gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert asked.json()["outcome"] == "cancel_requested"
    gateway.wait(31)
    await rival.dispatch()
    await gateway.workers.dispatcher.follow(attempt.lease, request_id)
    assert await gateway.poll() == 1
    assert (await gateway.read(job))["status"] == "cancelled"


async def test_a_late_request_id_counts_while_nobody_swept(gateway: Gateway) -> None:
    job, attempt, request_id = await sent(gateway)
    gateway.wait(31)
    await gateway.workers.dispatcher.follow(attempt.lease, request_id)
    assert (await gateway.read(job))["status"] == "in_queue"


async def test_a_request_id_that_comes_after_an_operator_stays_in_the_log(
    gateway: Gateway, rival: Gateway, database_url: str
) -> None:
    """The operator had it sent again: two are at RunComfy, and both must be findable."""
    job, attempt, lost = await sent(gateway)
    await _send_again(database_url, job, at=gateway.clock.now())
    assert await rival.dispatch() == 1
    adopted = (await row_of(database_url, job)).upstream_request_id

    await gateway.workers.dispatcher.follow(attempt.lease, lost)
    row, events = (await read_jobs(database_url))[job["id"]]
    assert row.upstream_request_id == adopted
    assert [event.data for event in events if event.type == "late_request_id"] == [
        {"upstream_request_id": lost}
    ]
    assert (await rival.follow(job))["status"] == "completed"


async def test_a_request_id_that_comes_after_an_operators_end_is_watched(
    gateway: Gateway, rival: Gateway
) -> None:
    job, attempt, request_id = await sent(gateway, "sandbox:instant")
    gateway.wait(31)
    await rival.dispatch()
    await rival.admin.post(f"/v1/admin/jobs/{job['id']}/release")
    await gateway.workers.dispatcher.follow(attempt.lease, request_id)
    assert await rival.poll() == 1
    late = await gateway.read(job)
    assert (late["status"], late["late"]) == ("completed", True)
    assert late["submitted_at"] == late["started_at"] == late["finished_at"] is not None


async def test_a_request_id_that_comes_while_a_later_submit_is_unknown_is_adopted(
    gateway: Gateway, rival: Gateway, sandbox: Sandbox, database_url: str
) -> None:
    job, attempt, request_id = await sent(gateway)
    gateway.wait(31)
    await rival.dispatch()
    assert (await rival.admin.post(f"/v1/admin/jobs/{job['id']}/resubmit")).status_code == 200
    await rival.workers.dispatcher.claim(32)
    gateway.wait(31)
    await rival.dispatch()
    assert (await rival.read(job))["status"] == "submit_unknown"

    await gateway.workers.dispatcher.follow(attempt.lease, request_id)
    assert (await row_of(database_url, job)).upstream_request_id == request_id
    assert (await rival.follow(job))["status"] == "completed"
    assert len(await sandbox.submits(job)) == 1


async def test_an_attempt_that_was_given_up_but_never_sent_goes_back_into_the_line(
    gateway: Gateway, rival: Gateway, sandbox: Sandbox
) -> None:
    """A process that was frozen before it sent anything knows so when it wakes."""
    job = await gateway.submit()
    [attempt] = await gateway.workers.dispatcher.claim(32)
    gateway.wait(31)
    await rival.dispatch()
    assert (await rival.read(job))["status"] == "submit_unknown"

    await gateway.workers.dispatcher.dispatch(attempt)
    assert (await rival.read(job))["status"] == "pending"
    assert (await rival.follow(job))["status"] == "completed"
    assert len(await sandbox.submits(job)) == 1


async def test_an_attempt_that_was_never_sent_says_nothing_of_a_later_one_that_is_unknown(
    gateway: Gateway, rival: Gateway
) -> None:
    job = await gateway.submit("sandbox:lost-answer")
    [early] = await gateway.workers.dispatcher.claim(32)
    gateway.wait(31)
    await rival.dispatch()
    await rival.admin.post(f"/v1/admin/jobs/{job['id']}/resubmit")
    await rival.dispatch()
    assert (await rival.read(job))["status"] == "submit_unknown"

    await gateway.workers.dispatcher.dispatch(early)
    assert (await rival.read(job))["status"] == "submit_unknown"


async def test_a_request_id_that_comes_while_the_job_waits_again_is_not_its_next_ones(
    gateway: Gateway, rival: Gateway, database_url: str
) -> None:
    job, attempt, lost = await sent(gateway)
    await _send_again(database_url, job, at=gateway.clock.now())

    await gateway.workers.dispatcher.follow(attempt.lease, lost)
    row = await row_of(database_url, job)
    assert (row.state, row.upstream_request_id, row.watch_until) == ("pending", None, None)
    assert (await rival.follow(job))["status"] == "completed"
    assert (await row_of(database_url, job)).upstream_request_id != lost


async def test_a_request_id_that_comes_after_the_failure_of_another_is_watched_in_its_place(
    gateway: Gateway, rival: Gateway, database_url: str
) -> None:
    """RunComfy has said what became of the other; this one may be a film, and paid for."""
    job, attempt, lost = await sent(gateway, "sandbox:instant sandbox:fail")
    await _send_again(database_url, job, at=gateway.clock.now())
    assert (await rival.follow(job))["status"] == "failed"

    await gateway.workers.dispatcher.follow(attempt.lease, lost)
    assert (await row_of(database_url, job)).upstream_request_id == lost
    assert await rival.poll() == 1
    assert (await row_of(database_url, job)).watch_until is None, "it has failed, too"
    assert (await event_types(database_url, job))[-2:] == ["failed", "late_request_id"]


async def test_a_request_id_does_not_replace_another_that_is_watched(
    gateway: Gateway, rival: Gateway, database_url: str
) -> None:
    job, attempt, lost = await sent(gateway, "sandbox:stuck-in-queue")
    await _send_again(database_url, job, at=gateway.clock.now())
    await rival.dispatch()
    gateway.wait(3600)
    await rival.poll()
    ended = await row_of(database_url, job)
    assert (ended.state, ended.watch_until is None) == ("failed", False)

    await gateway.workers.dispatcher.follow(attempt.lease, lost)
    row = await row_of(database_url, job)
    assert row.upstream_request_id == ended.upstream_request_id != lost
    assert (row.due_at, row.watch_until) == (ended.due_at, ended.watch_until)


async def test_a_request_id_of_an_erased_job_is_told_for_there_is_nothing_left_to_note_it_on(
    gateway: Gateway, rival: Gateway
) -> None:
    job, attempt, request_id = await sent(gateway)
    gateway.wait(31)
    await rival.dispatch()
    ended = await rival.admin.post(f"/v1/admin/jobs/{job['id']}/release")
    assert ended.status_code == 200
    assert (await rival.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204

    with capture_logs() as logs:
        await gateway.workers.dispatcher.follow(attempt.lease, request_id)
    (told,) = [line for line in logs if line["event"] == "job.request_orphaned"]
    assert told["upstream_request_id"] == request_id
    assert "gateway_late_requests_total 1.0" in (await gateway.http.get("/metrics")).text


async def test_a_failure_that_comes_after_an_operator_is_not_the_new_attempts(
    gateway: Gateway, rival: Gateway, database_url: str
) -> None:
    """The row is `submitting` again, so only the attempt's token tells the two apart."""
    job = await gateway.submit("sandbox:submit-400001=1")
    [old] = await gateway.workers.dispatcher.claim(32)
    await _send_again(database_url, job, at=gateway.clock.now())
    [new] = await rival.workers.dispatcher.claim(32)

    await gateway.workers.dispatcher.dispatch(old)
    assert (await row_of(database_url, job)).state == "submitting"
    await rival.workers.dispatcher.dispatch(new)
    assert (await rival.follow(job))["status"] == "completed"


async def test_a_lease_too_short_for_the_whole_request_sends_nothing(
    gateway: Gateway, sandbox: Sandbox
) -> None:
    """The attempt waited here for 10 of its 30 s, and a request may take 20."""
    job = await gateway.submit()
    [attempt] = await gateway.workers.dispatcher.claim(32)
    gateway.wait(10.001)
    with pytest.raises(NotSentError):
        await gateway.workers.dispatcher.send(attempt)
    await gateway.workers.dispatcher.dispatch(attempt)
    assert await sandbox.submits(job) == []
    assert (await gateway.read(job))["status"] == "pending"
    gateway.wait(2)
    assert await gateway.dispatch() == 1
    assert len(await sandbox.submits(job)) == 1


async def test_a_lease_that_covers_the_request_to_the_moment_is_used(
    gateway: Gateway, sandbox: Sandbox
) -> None:
    job = await gateway.submit()
    [attempt] = await gateway.workers.dispatcher.claim(32)
    gateway.wait(10)
    await gateway.workers.dispatcher.dispatch(attempt)
    assert len(await sandbox.submits(job)) == 1


async def _send_again(database_url: str, job: Mapping[str, Any], *, at: datetime) -> None:
    """Make a job that is being sent `pending` again, as an operator may who knows better."""
    database = open_database(database_url)

    async def work(tx: AsyncConnection) -> None:
        taken = await tx.execute(
            update(JobRow)
            .where(JobRow.id == job["id"])
            .values(
                state=JobState.PENDING,
                event_seq=JobRow.event_seq + 1,
                due_at=at,
                lease_token=None,
                lease_expires_at=None,
            )
            .returning(JobRow.event_seq)
        )
        again = JobEvent(job_id=job["id"], seq=taken.scalar_one(), type=JobState.PENDING, at=at)
        await log.append(tx, [again])

    await database.transact(work)
    await database.close()
