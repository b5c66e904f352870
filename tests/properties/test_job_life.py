"""Any order of submits, cancels, erasures, an operator's acts, polls, hours and crashes.

Hypothesis picks what happens next; after each step everything that was promised must still hold,
beside a dict that says what is right.
"""

import asyncio
import itertools
import tempfile
from collections import Counter, defaultdict
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import sqlalchemy as sa
import uvloop
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from app.core.clock import ManualClock
from app.db.engine import parse_url
from app.db.models import JobEventRow, JobRow, LedgerRow, WebhookDeliveryRow
from app.jobs.models import Attempt
from app.jobs.state import MOVES, TERMINAL, JobState, states_of
from app.upstream.errors import UpstreamError
from app.webhooks.events import EventType, event_of
from tests.support.databases import Databases
from tests.support.gateway import Gateway, Sandbox, running, sandboxed
from tests.support.sse import stream

Answer = TypeVar("Answer")

DAY = 24 * 60 * 60
TIMEOUT = 60  # shorter than the slowest job, so that some succeed after it
FINAL = {state.status for state in TERMINAL}
STUCK = {"submit_unknown", "in_queue", "in_progress"}
ACTS = {
    "settle": STUCK,
    "release": STUCK,
    "fail": STUCK | {"pending"},
    "poll": {"in_queue", "in_progress"},
    "resubmit": {"submit_unknown"},
    "adopt": {"submit_unknown"},
}
"""What an operator may do with a job, by its status."""
ENDLESS = {"sandbox:stuck", "sandbox:stuck-in-queue", "sandbox:expired=5"}
WORDS = [
    *("sandbox:instant", "sandbox:queue=3 sandbox:slow=4", "sandbox:instant sandbox:fail"),
    *("sandbox:fail=none", "sandbox:instant sandbox:output=none", *sorted(ENDLESS)),
    *("sandbox:lost-answer", "sandbox:lost-answer=html", "sandbox:lost-answer=no-id"),
    *("sandbox:lost-answer=error-200", "sandbox:lost-answer=504", "sandbox:cut-request"),
    *("sandbox:submit-429=2", "sandbox:submit-503", "sandbox:submit-reset"),
    *("sandbox:submit-400002", "sandbox:poll-504=2", "sandbox:poll-reset sandbox:queue=2"),
    *("sandbox:result-404001=1", "sandbox:poll-404001=2"),
    *("sandbox:queue=9 sandbox:cancel-ignored", "sandbox:queue=9 sandbox:cancel-lag=5"),
    *("sandbox:queue=9 sandbox:lost-cancel", "sandbox:queue=9 sandbox:cancel-outcome=none"),
    *("sandbox:queue=9 sandbox:cancel-undone=5", "sandbox:queue=2 sandbox:slow=90"),
    *("sandbox:queue=40 sandbox:cancel-undone=9", "sandbox:queue=70 sandbox:slow=2"),
    *("sandbox:status-word=canceled", "sandbox:letters", "sandbox:queued-word sandbox:no-position"),
]


@dataclass
class Known:
    """One job as a client remembers it; `final` is what it read once there was an end."""

    id: str
    prompt: str
    status: str
    final: dict[str, Any] | None = None


@dataclass
class Claim:
    """What an idempotency key stands for; the gateway forgets it after a day."""

    job_id: str
    body: dict[str, Any]
    until: float


@dataclass
class Stalled:
    """A process that stopped in the middle of a submit and may yet go on."""

    gateway: Gateway
    attempt: Attempt
    request_id: str | None


@dataclass
class Model:
    """`erased` has the prompts of jobs that their owner erased."""

    jobs: dict[str, Known] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    erased: dict[str, str] = field(default_factory=dict)


class JobLife(RuleBasedStateMachine):
    def __init__(self, databases: Databases) -> None:
        super().__init__()
        self.model = Model()
        self.stalled: list[Stalled] = []
        self.clock = ManualClock()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.stack = AsyncExitStack()
        self.database_url = self.stack.enter_context(databases.fresh())
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.events = sa.create_engine(parse_url(self.database_url))
        self.stack.callback(self.events.dispose)
        self.run(self._open(Path(folder)))

    async def _open(self, folder: Path) -> None:
        self.sandbox: Sandbox = await self.stack.enter_async_context(
            sandboxed(folder, clock=self.clock)
        )
        self.gateway = await self._start()
        endpoint = {"url": "https://example.com/hooks", "events": list(EventType)}
        answer = await self.gateway.http.post("/v1/webhook-endpoints", json=endpoint)
        assert answer.status_code == 201, answer.text

    async def _start(self) -> Gateway:
        started = running(
            self.database_url,
            sandbox=self.sandbox,
            clock=self.clock,
            job_timeout_seconds=TIMEOUT,
        )
        return await self.stack.enter_async_context(started)

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    @rule(
        words=st.sampled_from(WORDS),
        priority=st.sampled_from(["high", "normal", "low"]),
        start_within=st.sampled_from([None, None, 6, 40]),
    )
    def submit(self, words: str, priority: str, start_within: int | None) -> None:
        chosen = {"priority": priority, "start_within_seconds": start_within}
        answer = self.run(self._post(self.gateway.body(words) | chosen))
        assert answer.status_code == 202, answer.text
        self._learn(answer.json())

    @rule(key=st.sampled_from("ab"), words=st.sampled_from(WORDS), at_once=st.integers(1, 3))
    def submit_under_a_key(self, key: str, words: str, at_once: int) -> None:
        claim = self._claim(key)
        body = claim.body if claim else self.gateway.body(words)
        answers = self.run(self._post_at_once(body, key=key, times=at_once))
        if claim and claim.job_id in self.model.erased:
            assert {answer.status_code for answer in answers} == {409}
            return
        jobs = {answer.json()["id"] for answer in answers}
        assert len(jobs) == 1, jobs
        fresh = [answer for answer in answers if answer.status_code == 202]
        replayed = [answer for answer in answers if answer.status_code == 200]
        assert len(fresh) == (0 if claim else 1)
        assert len(fresh) + len(replayed) == at_once
        assert all(answer.headers["Idempotency-Replayed"] == "true" for answer in replayed)
        if claim:
            assert jobs == {claim.job_id}
        else:
            self._learn(fresh[0].json())
            until = self.clock.monotonic() + DAY
            self.model.claims[key] = Claim(job_id=jobs.pop(), body=body, until=until)

    @precondition(lambda self: self.model.claims)
    @rule(data=st.data())
    def submit_something_else_under_a_used_key(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.claims)))
        if claim := self._claim(key):
            answer = self.run(self._post(self.gateway.body(), key=key))
            assert answer.status_code == 409
            assert answer.json()["code"] == "idempotency_conflict"
            assert answer.json()["job"] == claim.job_id

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), worker_is_there=st.booleans())
    def cancel(self, data: st.DataObject, worker_is_there: bool) -> None:  # noqa: FBT001
        job = data.draw(st.sampled_from(list(self.model.jobs.values())))
        answer = self.run(self._cancel(job.id, worker_is_there=worker_is_there))
        # It goes on while the answer travels, but what had ended before must be told so.
        now, had_ended = self._read(job.id)["status"], job.status in FINAL
        match answer.status_code, answer.json():
            case 200, {"outcome": "cancelled_locally" | "cancelled_upstream", "job": told}:
                assert told["status"] == now == "cancelled"
            case 202, {"outcome": "cancel_requested"}:
                assert not had_ended
                assert now in {"pending", "in_queue", "in_progress"} | FINAL
            case 409, {"code": "not_cancellable", "reason": "finished"}:
                assert now in {"completed", "failed"}
            case 409, {"code": "not_cancellable", "reason": "in_progress"}:
                assert not had_ended
                assert now in {"in_queue", "in_progress", "completed", "failed"}
            case 409, {"code": "not_cancellable", "reason": "submit_unknown"}:
                assert now == "submit_unknown"
            case other:
                raise AssertionError(other)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.model.jobs.values())))
        is_final = self._read(job.id)["status"] in FINAL
        path = f"/v1/jobs/{job.id}"
        answers = [self.run(self.gateway.http.delete(path)).status_code for _ in range(2)]
        assert answers == ([204, 404] if is_final else [409, 409])
        if is_final:
            self.model.erased[job.id] = self.model.jobs.pop(job.id).prompt

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), act=st.sampled_from(sorted(ACTS)))
    def act_as_an_operator(self, data: st.DataObject, act: str) -> None:
        """Do what may be done by hand; whether RunComfy has the job is known from its own list."""
        job = data.draw(st.sampled_from(list(self.model.jobs.values())))
        accepted = [each for each in self._seen() if each["input"]["prompt"] == job.prompt]
        if bool(accepted) != (act == "adopt") and act in {"adopt", "resubmit"}:
            return
        body = {"request_id": accepted[0]["request_id"]} if act == "adopt" else None
        is_taken = job.status == "pending" and self._is_being_sent(job.id)
        path = f"/v1/admin/jobs/{job.id}/{act}"
        answer = self.run(self.gateway.admin.post(path, json=body))
        may = job.status in ACTS[act] and not is_taken
        assert answer.status_code == (200 if may else 409), answer.text
        if may:
            assert answer.json()["hold"] == answer.json()["job"]["cost"]["state"]

    @rule()
    def dispatch(self) -> None:
        self.run(self.gateway.dispatch())

    @rule()
    def poll(self) -> None:
        self.run(self.gateway.poll())

    @rule(rounds=st.integers(2, 12))
    def work(self, rounds: int) -> None:
        """Let all go well for a while: otherwise few jobs would come to their end."""
        self.run(self._work(rounds))

    @rule(seconds=st.sampled_from([1, 5, 31, 3601, DAY]))
    def wait(self, seconds: int) -> None:
        self.gateway.wait(seconds)

    @rule(when=st.sampled_from(["at rest", "polling", "alone"]))
    def crash_and_restart(self, when: str) -> None:
        """Abandon a process with the leases it has; another opens the same database.

        Where nobody else can be at work, as on SQLite, it need not wait for leases to run out.
        """
        if when == "polling":
            self.run(self.gateway.workers.poller.claim(10))
        self.gateway = self.run(self._start())
        if when == "alone":
            self.stalled.clear()
            self.run(self.gateway.app.state.parts.free_leases())

    @rule(was_sent=st.booleans())
    def stall_in_a_submit(self, was_sent: bool) -> None:  # noqa: FBT001
        """Stop a process after it claimed a job, or after it sent it and before it wrote so."""
        self.run(self._stall(was_sent=was_sent))

    @precondition(lambda self: self.stalled)
    @rule()
    def wake_up_late(self) -> None:
        """Let a stalled process go on, whatever became of its job meanwhile."""
        self.run(self._wake(self.stalled.pop()))

    @rule(data=st.data(), limit=st.integers(1, 4), status=st.sampled_from([None, *sorted(FINAL)]))
    def page_through(self, data: st.DataObject, limit: int, status: str | None) -> None:
        listed = self._list(limit=limit, status=status)
        expected = [
            job_id for job_id in self._newest_first() if status in {None, self._status(job_id)}
        ]
        assert [job["id"] for job in listed] == expected

    @invariant()
    def what_is_listed_is_what_was_accepted(self) -> None:
        listed = self._list(limit=100)
        assert [job["id"] for job in listed] == self._newest_first()
        for job in listed:
            known = self.model.jobs[job["id"]]
            assert known.status == job["status"] or _leads_to(known.status, job["status"])
            known.status = job["status"]
            assert (job["status"] in FINAL) == (job["finished_at"] is not None)
            assert (job["status"] == "completed") == (job["output"] is not None)
            code = (job["error"] or {}).get("code")
            assert (job["status"] == "failed") == (code not in {None, "not_started_in_time"})
            assert code != "not_started_in_time" or job["status"] == "cancelled"
            assert not job["late"] or job["status"] == "completed"
            times = [job[f"{what}_at"] for what in ("created", "submitted", "started", "finished")]
            assert [at for at in times if at] == sorted(filter(None, times))
            assert job["status"] != "completed" or all(times)
            if known.final is not None and not (job["late"] and not known.final["late"]):
                assert _lasting(job) == known.final
            elif job["status"] in FINAL:
                known.final = _lasting(job)

    @invariant()
    def the_log_tells_a_life_that_the_table_allows(self) -> None:
        with self.events.connect() as connection:
            rows = connection.execute(
                sa.select(JobEventRow.job_id, JobEventRow.seq, JobEventRow.type).order_by(
                    JobEventRow.job_id, JobEventRow.seq
                )
            ).all()
            jobs = connection.execute(
                sa.select(JobRow.id, JobRow.state, JobRow.event_seq, JobRow.late).where(
                    JobRow.erased_at.is_(None)
                )
            ).all()
            charged = connection.execute(
                sa.select(LedgerRow.job_id, sa.func.count())
                .where(LedgerRow.kind != "hold")
                .group_by(LedgerRow.job_id)
            ).all()
            told = connection.execute(
                sa.select(WebhookDeliveryRow.job_id, WebhookDeliveryRow.type)
            ).all()
        to_tell = [(row.job_id, event) for row in rows if (event := event_of(row.type))]
        assert Counter(map(tuple, told)) == Counter(to_tell)
        lives: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for row in rows:
            lives[row.job_id].append((row.seq, row.type))
        assert lives.keys() == self.model.jobs.keys() == {job.id for job in jobs}
        for job in jobs:
            life = lives[job.id]
            assert [seq for seq, _ in life] == list(range(1, job.event_seq + 1))
            states = [JobState(kind) for _, kind in life if kind != "late_request_id"]
            assert states[0] is JobState.PENDING
            assert states[-1] == job.state
            assert all(after in MOVES[before] for before, after in itertools.pairwise(states))
            ends = sum(state in TERMINAL for state in states)
            assert ends == (job.state in TERMINAL) + (job.late is not None)
            entries = dict(map(tuple, charged)).get(job.id, 0)
            assert entries == (job.state in TERMINAL) + (job.late == "charged")

    @invariant()
    def money_is_spent_once(self) -> None:
        accepted = [request["input"]["prompt"] for request in self._seen()]
        assert len(accepted) == len(set(accepted))
        known = {job.prompt for job in self.model.jobs.values()} | {*self.model.erased.values()}
        assert set(accepted) <= known

    def teardown(self) -> None:
        try:
            if self.model.jobs:
                self.run(self._settle())
                self.what_is_listed_is_what_was_accepted()
                self.the_log_tells_a_life_that_the_table_allows()
                self.money_is_spent_once()
                adds_up = self.run(self.gateway.admin.get("/v1/admin/invariants"))
                assert adds_up.json()["ok"], adds_up.text
                for job in self.model.jobs.values():
                    self.run(self._replay(job))
                    endless = ENDLESS & set(job.prompt.split())
                    assert job.status in {*FINAL, "submit_unknown"} or endless, job
        finally:
            self.run(self.stack.aclose())
            self.runner.close()

    async def _settle(self) -> None:
        """Give every job that can end the time to do so."""
        for _ in range(20):
            await self._work(1)
            self.gateway.wait(20)

    async def _work(self, rounds: int) -> None:
        for _ in range(rounds):
            await self.gateway.dispatch()
            await self.gateway.poll()
            self.gateway.wait(1)

    async def _replay(self, job: Known) -> None:
        """Read a job's events from the beginning; the last one shows the job as it is now."""
        if job.status not in FINAL:  # its stream would stay open
            return
        async with stream(self.gateway.http, f"/v1/jobs/{job.id}/events", after="0") as events:
            told = await events.rest()
        assert all(event.event == f"job.{event.data['status']}" for event in told)
        statuses = [event.data["status"] for event in told]
        assert statuses[0] == "pending"
        assert all(_leads_to(*pair) for pair in itertools.pairwise(statuses))
        assert _lasting(told[-1].data) == job.final

    async def _post(self, body: dict[str, Any], *, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.gateway.http.post("/v1/jobs", json=body, headers=headers)

    async def _post_at_once(
        self, body: dict[str, Any], *, key: str, times: int
    ) -> list[httpx.Response]:
        return await asyncio.gather(*(self._post(body, key=key) for _ in range(times)))

    async def _cancel(self, job_id: str, *, worker_is_there: bool) -> httpx.Response:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(self.gateway.http.post(f"/v1/jobs/{job_id}/cancel"))
            while not asked.done():
                if worker_is_there:
                    await self.gateway.poll()
                await self.sandbox.http.get("/sandbox/requests")
                self.gateway.wait(1)
        return asked.result()

    async def _stall(self, *, was_sent: bool) -> None:
        for attempt in await self.gateway.workers.dispatcher.claim(1):
            request_id = None
            if was_sent:
                try:
                    request_id = await self.gateway.workers.dispatcher.send(attempt)
                except UpstreamError:
                    return  # and crashed before that was written, which is a crash all the same
            self.stalled.append(Stalled(self.gateway, attempt, request_id))

    async def _wake(self, stalled: Stalled) -> None:
        dispatcher = stalled.gateway.workers.dispatcher
        if stalled.request_id is None:
            await dispatcher.dispatch(stalled.attempt)
        else:
            await dispatcher.follow(stalled.attempt.lease, stalled.request_id)

    def _seen(self) -> list[dict[str, Any]]:
        """Return what RunComfy has accepted."""
        seen = self.run(self.sandbox.http.get("/sandbox/requests")).json()["requests"]
        return [request for request in seen if request["accepted"]]

    def _is_being_sent(self, job_id: str) -> bool:
        with self.events.connect() as connection:
            state = connection.scalar(sa.select(JobRow.state).where(JobRow.id == job_id))
        return state == JobState.SUBMITTING

    def _claim(self, key: str) -> Claim | None:
        claim = self.model.claims.get(key)
        return claim if claim and self.clock.monotonic() < claim.until else None

    def _learn(self, job: dict[str, Any]) -> None:
        assert job["status"] == "pending"
        self.model.jobs[job["id"]] = Known(job["id"], job["input"]["prompt"], job["status"])

    def _status(self, job_id: str) -> str:
        return self.model.jobs[job_id].status

    def _newest_first(self) -> list[str]:
        return sorted(self.model.jobs, reverse=True)

    def _read(self, job_id: str) -> dict[str, Any]:
        answer = self.run(self.gateway.http.get(f"/v1/jobs/{job_id}"))
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        again = self.run(
            self.gateway.http.get(
                f"/v1/jobs/{job_id}", headers={"If-None-Match": answer.headers["ETag"]}
            )
        )
        assert again.status_code == 304
        return job

    def _list(self, *, limit: int, status: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            asked = {"limit": limit, "status": status, "cursor": cursor}
            given = {name: value for name, value in asked.items() if value is not None}
            answer = self.run(self.gateway.http.get("/v1/jobs", params=given))
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


def _leads_to(before: str, after: str) -> bool:
    """Return whether moves of the table lead from one status to another, however many."""
    reached = set(states_of(before))
    while True:
        more = reached | {target for state in reached for target in MOVES[state]}
        if more == reached:
            return bool(reached & states_of(after))
        reached = more


def _lasting(job: dict[str, Any]) -> dict[str, Any]:
    """Leave out the links to outputs, which are signed anew every hour."""
    urls = {name: url for name, url in job["urls"].items() if name != "outputs"}
    return job | {"output": job["output"] and sorted(job["output"]), "urls": urls}


@pytest.mark.timeout(600)
def test_no_order_of_events_breaks_a_promise(databases: Databases) -> None:
    run_machine(
        lambda: JobLife(databases),
        settings=settings(
            # Shrinking over a database takes minutes; a failure is short enough to be read.
            phases=[Phase.generate],
            max_examples=settings().max_examples // 20,
            stateful_step_count=30,
        ),
    )
