"""The leased queue that workers draw from: each method is one transaction, many jobs at a time."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.ids import new_id
from app.core.metrics import Metrics
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.events.log import JobEvent
from app.jobs import accounts
from app.jobs.accounts import Gates, Roster
from app.jobs.announce import announce
from app.jobs.duration_repository import DurationRepository
from app.jobs.durations import Kind
from app.jobs.forecast import Forecast, phase_of
from app.jobs.lane import admit
from app.jobs.lane_repository import DISPATCH, POLLS, LaneRepository
from app.jobs.line import choose
from app.jobs.line_repository import LineRepository
from app.jobs.models import Attempt, Change, Lease, Watch, addresses
from app.jobs.outcomes import observed
from app.jobs.queue_repository import QueueRepository, any_job, waiting
from app.jobs.schedule import Jitter, Pace, PollPlan, ScheduleConfig, watch_delay
from app.jobs.state import JobState
from app.jobs.sweeps import Moves, SweepConfig, Sweeps
from app.jobs.switches import DISPATCH_PAUSED
from app.quotas import ledger
from app.quotas.repository import EntryKind
from app.storage import archive

logger = structlog.get_logger(__name__)

_ENDINGS: Mapping[str, EntryKind] = {
    "settled": EntryKind.SETTLE,
    "released": EntryKind.RELEASE,
}

_ONE = Roster()


class QueueConfig(SweepConfig):
    max_in_flight: int = 100
    polls_per_second: int = 50
    schedule: ScheduleConfig = ScheduleConfig()
    archives: bool = False


class JobQueue:
    """`name` is this process's own: the jobs it follows stay with it while it keeps polling."""

    def __init__(
        self,
        *,
        database: Database,
        config: QueueConfig,
        forecast: Forecast,
        metrics: Metrics,
        clock: Clock,
        jitter: Jitter,
        deliverer: Doorbell,
        roster: Roster = _ONE,
    ) -> None:
        self._database = database
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._forecast = forecast
        self._pace = Pace(config=config.schedule, polls_per_second=config.polls_per_second)
        self._sweeps = Sweeps(config)
        self._deliverer = deliverer
        self.roster = roster
        self.submits = Gates(DISPATCH, roster=roster, database=database, clock=clock, refusals=1)
        self.polls = Gates(POLLS, roster=roster, database=database, clock=clock, refusals=3)
        self.name = new_id("worker")
        self._was_busy = False
        self.record = NaturalBatch(self._apply)
        """Write one change; tells whether it counted, which it does not once the lease is lost."""

    async def claim_submits(self, *, limit: int) -> Sequence[Attempt]:
        """Take pending jobs to send, within what all replicas together may have in flight."""
        at = self._clock.now()
        covered_until = self._clock.monotonic() + self._config.lease.total_seconds()

        async def peek(connection: AsyncConnection) -> bool:
            overdue = self._sweeps.overdue(at=at)
            if await self.submits.whole.is_closed(connection, at=at):
                return await any_job(connection, *overdue)
            return await any_job(connection, waiting(at), *overdue)

        async def work(tx: AsyncConnection) -> _Round:
            lane = await LaneRepository(tx).lock(DISPATCH)
            self.submits.whole.saw(lane)
            moves = await self._sweeps.run(tx, at=at)
            granted, _ = admit(lane, limit, at=at, rate=None)
            started = await self._start(tx, at=at, covered_until=covered_until, limit=granted)
            if started and lane.changed_at is not None:
                _, lane = admit(lane, len(started), at=at, rate=None)
                await LaneRepository(tx).save(DISPATCH, lane)
            seqs = {attempt.lease.job_id: seq for attempt, seq in started}
            await announce(
                tx,
                [
                    JobEvent(job_id=job_id, seq=seq, type=JobState.SUBMITTING.value, at=at)
                    for job_id, seq in seqs.items()
                ],
            )
            return _Round([attempt for attempt, _ in started], {**moves, JobState.SUBMITTING: seqs})

        if not await self._database.read(peek):
            return []
        done = await self._database.transact(work)
        if any(seqs for state, seqs in done.moves.items() if state is not JobState.SUBMITTING):
            self._deliverer.ring()
        self._tell_of_round(done, at=at)
        return done.attempts

    async def claim_polls(self, *, limit: int) -> Sequence[Lease]:
        """Take followed jobs that are due, within the polls that all replicas together may make.

        The claim is also the next appointment, so a poll that finds nothing new writes nothing.
        """
        at = self._clock.now()

        async def peek(connection: AsyncConnection) -> bool:
            if await self.polls.whole.is_closed(connection, at=at):
                return False
            return await QueueRepository(connection).has_due_polls(
                poller=self.name, at=at, accounts=self.roster.names
            )

        async def work(tx: AsyncConnection) -> Sequence[Lease]:
            queue, lanes = QueueRepository(tx), LaneRepository(tx)
            await queue.call_off_late_starters(at=at)
            lane = await lanes.lock(POLLS)
            self.polls.whole.saw(lane)
            rate = self._config.polls_per_second
            granted, _ = admit(lane, limit, at=at, rate=rate)
            if not granted:
                return []
            own = await self.polls.lanes(tx) if self.polls.several else {}
            free = accounts.places(own, self.roster.names, granted, at=at)
            due = await queue.due_polls(
                poller=self.name,
                accounts=[account for account, most in free.items() if most],
                at=at,
                expires_at=at + self._config.lease,
                limit=2 * granted,
            )
            leases = _within(self._most_urgent(due, granted, at=at), free)
            if leases:
                await queue.reschedule({lease: self.next_poll(lease, at=at) for lease in leases})
                _, lane = admit(lane, len(leases), at=at, rate=rate)
                await lanes.save(POLLS, lane)
                await self.polls.take(tx, own, Counter(lease.account for lease in leases), at)
            return leases

        await self._forecast.refresh()
        self._pace.follow(self._forecast.followed)
        # Who found work last time will find some again, and need not ask.
        if not self._was_busy and not await self._database.read(peek):
            return []
        claimed = await self._database.transact(work)
        self._was_busy = bool(claimed)
        return claimed

    def _most_urgent(
        self, due: Sequence[tuple[Lease, datetime]], most: int, *, at: datetime
    ) -> list[Lease]:
        """Choose among the longest due, so that nobody is passed over for long."""
        if len(due) <= most:
            self._pace.learn([], short=False)
            return [lease for lease, _ in due]
        urgencies = []
        for lease, due_at in due:
            plan, elapsed = self._plan(lease, at=at)
            overdue = (at - due_at).total_seconds()
            urgencies.append(self._pace.urgency(plan, elapsed, overdue=overdue))
        order = sorted(range(len(due)), key=lambda n: -urgencies[n])[:most]
        self._pace.learn([urgencies[n] for n in order], short=True)
        return [due[n][0] for n in order]

    async def note_late_request(self, lease: Lease, *, request_id: str) -> bool:
        """Keep a request id that came when the job had moved on: it may be billed, and is watched.

        False if the job has this very id: it was written, though the commit's answer was lost.
        """
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> bool:
            seq = await QueueRepository(tx).note_request(
                lease.job_id,
                request_id,
                account=lease.account,
                watch_until=at + self._config.late_watch,
                at=at,
            )
            if seq is not None:
                data = {"upstream_request_id": request_id}
                event = JobEvent(
                    job_id=lease.job_id,
                    seq=seq,
                    type="late_request_id",
                    at=at,
                    data=data,
                )
                await announce(tx, [event])
            return seq is not None

        is_news = await self._database.transact(work)
        self._metrics.late_requests.inc(is_news)
        return is_news

    async def free_leases(self) -> None:
        """End every lease at start; only where no other process can hold one."""

        async def work(tx: AsyncConnection) -> None:
            await QueueRepository(tx).free_leases(at=self._clock.now())
            await archive.free_leases(tx, at=self._clock.now())

        await self._database.transact(work)

    async def _start(
        self, tx: AsyncConnection, *, at: datetime, covered_until: float, limit: int
    ) -> Sequence[tuple[Attempt, int]]:
        """Fill the free places from the line of waiting jobs, unless operators paused it."""
        queue, line = QueueRepository(tx), LineRepository(tx)
        if not limit or await queue.is_on(DISPATCH_PAUSED):
            return []
        unknown_since = at - self._config.job_timeout
        users, keys = await line.count_in_flight(unknown_since=unknown_since)
        own = await self.submits.lanes(tx) if self.submits.several else {}
        places = accounts.places(own, self.roster.takers, limit, at=at)
        free = min(limit, self._config.max_in_flight - users.total(), sum(places.values()))
        if free <= 0:
            return []
        waiting, limits = await line.first_in_line(users=users, keys=keys, at=at, most=free)
        chosen = choose(waiting, load=limits, free=free)
        if not chosen:
            return []
        load = await accounts.count_in_flight(tx) if len(places) > 1 else {}
        shares = accounts.share([job.job_id for job in chosen], load=load, free=places)
        token, started = new_id("attempt"), list[tuple[Attempt, int]]()
        for account, job_ids in shares.items():
            started += await queue.start_submits(
                job_ids,
                account=account,
                token=token,
                at=at,
                expires_at=at + self._config.lease,
                covered_until=covered_until,
            )
        await self.submits.take(
            tx, own, Counter(attempt.lease.account for attempt, _ in started), at
        )
        return started

    def next_poll(self, lease: Lease, *, at: datetime, state: JobState | None = None) -> datetime:
        """Make the next appointment of a job, which is in `state` from now on if that is given.

        One is at the very instant that its time or its watch is over.
        """
        if lease.finished_at is not None and lease.watch_until is not None:
            due_at = at + watch_delay(at - lease.finished_at)
            return min(due_at, lease.watch_until) if at < lease.watch_until else due_at
        plan, elapsed = self._plan(lease, at=at, state=state)
        due_at = at + self._pace.delay(plan, elapsed, jitter=self._jitter())
        return self.before_time_out(lease, due_at, at=at)

    def before_time_out(self, lease: Lease, due_at: datetime, *, at: datetime) -> datetime:
        times_out_at = self.times_out_at(lease)
        return min(due_at, times_out_at) if at < times_out_at else due_at

    def times_out_at(self, lease: Lease) -> datetime:
        return (lease.submitted_at or lease.created_at) + self._config.job_timeout

    def watch(self, *, at: datetime) -> Watch:
        """Tell how to go on looking at a job that ends now without upstream's word."""
        return Watch(until=at + self._config.late_watch, due_at=at + watch_delay(timedelta()))

    def _plan(
        self, lease: Lease, *, at: datetime, state: JobState | None = None
    ) -> tuple[PollPlan, float]:
        phase, elapsed = phase_of(
            is_running=(state or lease.state) is JobState.IN_PROGRESS,
            submitted_at=lease.submitted_at,
            started_at=lease.started_at,
            at=at,
        )
        kind = Kind.of(phase, lease.model, lease.input_class)
        return self._forecast.durations.plan(kind), elapsed

    async def _apply(self, changes: Sequence[Change]) -> Sequence[bool]:
        async def work(tx: AsyncConnection) -> tuple[Mapping[str, int], bool]:
            seqs = await QueueRepository(tx).apply(changes)
            moved = [
                change
                for change in changes
                if change.lease.job_id in seqs and change.state is not change.lease.state
            ]
            to_deliver = await announce(
                tx,
                [
                    JobEvent(
                        job_id=change.lease.job_id,
                        seq=seqs[change.lease.job_id],
                        type=change.state.value,
                        at=change.at,
                        data=change.note,
                    )
                    for change in moved
                ],
            )
            endings = {
                change.lease.job_id: _ENDINGS[change.cost_state]
                for change in moved
                if change.cost_state is not None
            }
            await ledger.end_all(tx, endings, at=self._clock.now())
            await self._enqueue_copies(tx, moved)
            await DurationRepository(tx).observe(
                itertools.chain.from_iterable(map(observed, moved)), at=self._clock.now()
            )
            late = [change.lease.job_id for change in moved if change.late == "charged"]
            await ledger.charge_late(tx, late, at=self._clock.now())
            return seqs, to_deliver

        seqs, to_deliver = await self._database.transact(work)
        if to_deliver:
            self._deliverer.ring()
        for change in changes:
            self._tell(change, counted=change.lease.job_id in seqs)
        return [change.lease.job_id in seqs for change in changes]

    def _tell_of_round(self, done: "_Round", *, at: datetime) -> None:
        for state, seqs in done.moves.items():
            self._metrics.moves.labels(state.value).inc(len(seqs))
            for job_id in seqs:
                logger.info("job.advanced", job_id=job_id, state=state.value)
        for attempt in done.attempts:
            if attempt.lease.attempts == 1:
                waited = at - attempt.lease.created_at
                self._metrics.dispatch_delay.observe(waited.total_seconds())

    def _tell(self, change: Change, *, counted: bool) -> None:
        job_id, state = change.lease.job_id, change.state.value
        if not counted:
            self._metrics.lease_losses.labels("job").inc()
            logger.warning("job.lease_lost", job_id=job_id, state=state)
        elif change.state is not change.lease.state:
            self._metrics.moves.labels(state).inc()
            logger.info(
                "job.advanced",
                job_id=job_id,
                state=state,
                attempts=change.lease.attempts,
                upstream_request_id=change.upstream_request_id,
            )

    async def _enqueue_copies(self, tx: AsyncConnection, moved: Sequence[Change]) -> None:
        if self._config.archives:
            outputs = {
                change.lease.job_id: len(list(addresses(change.output)))
                for change in moved
                if change.output is not None
            }
            await archive.enqueue(tx, outputs, at=self._clock.now())


@dataclass(frozen=True, slots=True)
class _Round:
    attempts: Sequence[Attempt]
    moves: Moves


def _within(leases: Sequence[Lease], free: Mapping[str, int]) -> Sequence[Lease]:
    """Keep of each account's jobs as many as may be polled now."""
    seen = Counter[str]()
    kept = []
    for lease in leases:
        seen[lease.account] += 1
        if seen[lease.account] <= free[lease.account]:
            kept.append(lease)
    return kept
