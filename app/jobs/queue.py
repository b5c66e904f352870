"""The leased queue that workers draw from: each method is one transaction, many jobs at a time."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.core.ids import new_id
from app.core.metrics import Metrics
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.events.log import JobEvent
from app.jobs import outcomes
from app.jobs.announce import announce
from app.jobs.change_repository import ChangeRepository
from app.jobs.lanes import accounts
from app.jobs.lanes.accounts import Gates, Roster
from app.jobs.lanes.gate import GateConfig
from app.jobs.lanes.lane import admit
from app.jobs.lanes.pause import is_paused
from app.jobs.lanes.repository import DISPATCH, POLLS, LaneRepository
from app.jobs.models import Attempt, Lease
from app.jobs.queue_repository import QueueRepository
from app.jobs.recorder import Recorder
from app.jobs.repository import JobRepository
from app.jobs.state import JobState
from app.jobs.sweeps import Moves, SweepConfig, Sweeps
from app.jobs.timing.forecast import Forecast
from app.jobs.timing.poll_times import PollTimes
from app.jobs.timing.schedule import Jitter, Pace, ScheduleConfig
from app.jobs.waiting.fairness import choose, turns_of
from app.jobs.waiting.repository import LineRepository
from app.storage import copies

logger = structlog.get_logger(__name__)

_ONE = Roster()
# A job whose own polls fail while it runs, as happens at RunComfy, says nothing about the others:
# the longer ago those ended, the likelier it is the only one that is polled.
_POLL_PROBES = 5
# If half of all polls fail, five failures in a row come up soon, and mean nothing.
_POLL_PATIENCE = timedelta(seconds=5)
# At most this many more jobs are looked at than may be polled, to choose the most urgent ones.
_CHOICE = 256


class QueueConfig(SweepConfig):
    max_in_flight: int = 100
    polls_per_second: int = 50
    schedule: ScheduleConfig = ScheduleConfig()
    archives: bool = False


class JobQueue:
    """`name` is unique to this process: the jobs it follows stay with it while it keeps polling."""

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
        self._sweeps = Sweeps(config)
        self._deliverer = deliverer
        self.poll_times = PollTimes(
            forecast=forecast,
            pace=Pace(config=config.schedule, polls_per_second=config.polls_per_second),
            job_timeout=config.job_timeout,
            late_watch=config.late_watch,
            jitter=jitter,
        )
        self.roster = roster
        self.submits = Gates(
            DISPATCH, GateConfig(refusals=1), roster=roster, database=database, clock=clock
        )
        self.polls = Gates(
            POLLS,
            GateConfig(refusals=3, probes=_POLL_PROBES, patience=_POLL_PATIENCE),
            roster=roster,
            database=database,
            clock=clock,
        )
        self.name = new_id("worker")
        self._was_busy = False
        self._unconfirmed: dict[Lease, float] = {}
        recorder = Recorder(
            database=database,
            archives=config.archives,
            metrics=metrics,
            clock=clock,
            deliverer=deliverer,
        )
        self.record = NaturalBatch(recorder.write)
        """Write one change; return whether it counted, which it does not once the lease is lost."""

    async def claim_submits(self, *, limit: int) -> Sequence[Attempt]:
        """Take pending jobs to send, within what all replicas together may have in flight."""
        at = self._clock.now()
        covered_until = self._clock.monotonic() + self._config.lease.total_seconds()
        taken: list[Lease] = []

        async def peek(connection: AsyncConnection) -> tuple[bool, bool]:
            queue = QueueRepository(connection)
            is_startable, is_overdue = await queue.look_for_work(self._sweeps.since(at=at))
            is_closed = await self.submits.whole.is_closed(connection, at=at)
            return is_startable and not is_closed, is_overdue

        async def work(tx: AsyncConnection) -> _Round:
            lane = await LaneRepository(tx).lock(DISPATCH)
            self.submits.whole.saw(lane)
            moves = await self._sweeps.run(tx, at=at) if is_overdue else {}
            granted, _ = admit(lane, limit, at=at, rate=None)
            granted = self.submits.whole.own_share(granted, at=at)
            started = await self._start(
                tx, at=at, covered_until=covered_until, limit=granted, wanted=limit
            )
            if started and lane.changed_at is not None:
                _, lane = admit(lane, len(started), at=at, rate=None)
                await LaneRepository(tx).save(DISPATCH, lane)
            taken[:] = [attempt.lease for attempt, _ in started]
            seqs = {attempt.lease.job_id: seq for attempt, seq in started}
            await announce(
                tx,
                [
                    JobEvent(job_id=job_id, seq=seq, type=JobState.SUBMITTING.value, at=at)
                    for job_id, seq in seqs.items()
                ],
            )
            return _Round([attempt for attempt, _ in started], {**moves, JobState.SUBMITTING: seqs})

        await self._give_back()
        is_startable, is_overdue = await self._database.look_up(peek)
        if not (is_startable or is_overdue):
            return []
        try:
            done = await self._database.transact(work)
        except DatabaseUnavailableError as exc:
            if exc.is_unsure:
                self._unconfirmed |= dict.fromkeys(taken, covered_until)
            raise
        self.submits.whole.took(len(done.attempts), at=at)
        if any(seqs for state, seqs in done.moves.items() if state is not JobState.SUBMITTING):
            self._deliverer.ring()
        self._tell_of_round(done, at=at)
        return done.attempts

    async def _give_back(self) -> None:
        """Put into the line again what was claimed without an answer: it was certainly not sent.

        Nobody sees a commit that waits for a standby before it arrives there: until its lease is
        over, each is looked for again.
        """
        now = self._clock.monotonic()
        self._unconfirmed = {lease: end for lease, end in self._unconfirmed.items() if end > now}
        if not (leases := [*self._unconfirmed]):
            return

        at = self._clock.now()
        claimed = await self._database.read(lambda tx: QueueRepository(tx).still_claimed(leases))
        reason = "The database did not confirm the claim."
        found = [lease for lease in leases if lease.job_id in claimed]
        given_back = [
            outcomes.not_accepted(lease, reason=reason, due_at=at, at=at) for lease in found
        ]
        await asyncio.gather(*map(self.record, given_back))
        for lease in found:
            del self._unconfirmed[lease]

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
            granted, _ = admit(lane, limit, at=at, rate=rate, probes=_POLL_PROBES)
            granted = self.polls.whole.own_share(granted, at=at)
            if not granted:
                return []
            own = await self.polls.lanes(tx)
            free = accounts.slots(own, self.roster.names, granted, at=at)
            due = await queue.due_polls(
                poller=self.name,
                accounts=[account for account, most in free.items() if most],
                at=at,
                expires_at=at + self._config.lease,
                limit=granted + min(granted, _CHOICE),
            )
            leases = _within(self.poll_times.most_urgent(due, granted, at=at), free)
            if leases:
                await queue.reschedule(
                    (lease, self.poll_times.next_poll(lease, at=at)) for lease in leases
                )
                _, lane = admit(lane, len(leases), at=at, rate=rate, probes=_POLL_PROBES)
                await lanes.save(POLLS, lane)
                await self.polls.take(tx, own, Counter(lease.account for lease in leases), at)
            return leases

        await self.poll_times.refresh()
        # If there was work last time there will be some again: no need to ask first.
        if not self._was_busy and not await self._database.look_up(peek):
            return []
        claimed = await self._database.transact(work)
        self.polls.whole.took(len(claimed), at=at)
        self._was_busy = bool(claimed)
        return claimed

    async def note_late_request(self, lease: Lease, *, request_id: str) -> bool:
        """Keep a request id that came after the job had moved on: it may be billed, and is watched.

        False if the job already has this id: it was written, though the commit's answer was lost.
        Of a job that was erased meanwhile there is nothing to keep it with: the caller tells.
        """
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> bool:
            seq = await ChangeRepository(tx).note_request(
                lease.job_id,
                request_id,
                account=lease.account,
                watch_until=at + self._config.late_watch,
                at=at,
            )
            if seq is None:  # the job's own id, or that of one that was erased
                return await JobRepository(tx).holder_of(request_id) is None
            event = JobEvent(
                job_id=lease.job_id,
                seq=seq,
                type="late_request_id",
                at=at,
                data={"upstream_request_id": request_id},
            )
            await announce(tx, [event])
            return True

        is_news = await self._database.transact(work)
        self._metrics.late_requests.inc(is_news)
        return is_news

    async def free_leases(self) -> None:
        """End every lease at start; only where no other process can hold one."""

        async def work(tx: AsyncConnection) -> None:
            await QueueRepository(tx).free_leases(at=self._clock.now())
            await copies.free_leases(tx, at=self._clock.now())

        await self._database.transact(work)

    async def _start(
        self, tx: AsyncConnection, *, at: datetime, covered_until: float, limit: int, wanted: int
    ) -> Sequence[tuple[Attempt, int]]:
        """Fill the free places from the line of waiting jobs, unless operators paused it."""
        queue, line = QueueRepository(tx), LineRepository(tx)
        if not limit or await is_paused(tx):
            return []
        unknown_since = at - self._config.job_timeout
        users, keys = await line.count_in_flight(unknown_since=unknown_since)
        own = await self.submits.lanes(tx)
        places = accounts.slots(own, self.roster.takers, limit, at=at)
        taken = min(limit, sum(places.values()))
        free = min(taken, self._config.max_in_flight - users.total())
        if free <= 0:
            return []
        waiting, limits = await line.first_in_line(
            users=users, keys=keys, takes_few=taken < wanted, at=at, most=free
        )
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
        await line.note_turns(turns_of(chosen, at=at))
        await self.submits.take(
            tx, own, Counter(attempt.lease.account for attempt, _ in started), at
        )
        return started

    def _tell_of_round(self, done: "_Round", *, at: datetime) -> None:
        for state, seqs in done.moves.items():
            self._metrics.moves.labels(state.value).inc(len(seqs))
            for job_id in seqs:
                logger.info("job.advanced", job_id=job_id, state=state.value)
        for attempt in done.attempts:
            if attempt.lease.attempts == 1:
                waited = at - attempt.lease.created_at
                self._metrics.dispatch_delay.observe(waited.total_seconds())


@dataclass(frozen=True, slots=True)
class _Round:
    attempts: Sequence[Attempt]
    moves: Moves


def _within(leases: Sequence[Lease], free: Mapping[str, int]) -> Sequence[Lease]:
    """Keep as many of each account's jobs as may be polled now."""
    seen = Counter[str]()
    kept = []
    for lease in leases:
        seen[lease.account] += 1
        if seen[lease.account] <= free[lease.account]:
            kept.append(lease)
    return kept
