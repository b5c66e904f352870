"""The line of jobs to send, as workers claim them: many at a time, in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError
from app.core.ids import new_id
from app.core.metrics import Metrics
from app.db.engine import Database
from app.jobs import outcomes
from app.jobs.lanes import accounts
from app.jobs.lanes.accounts import Gates, Roster, Turn
from app.jobs.lanes.gate import GateConfig
from app.jobs.lanes.pause import is_paused
from app.jobs.lanes.repository import DISPATCH
from app.jobs.models import Attempt, Change, Lease
from app.jobs.moves import Move, log_moves, record_moves
from app.jobs.queue.config import QueueConfig
from app.jobs.queue.repository import QueueRepository
from app.jobs.queue.sweeps import Sweeps
from app.jobs.waiting.fairness import choose, turns_of
from app.jobs.waiting.repository import LineRepository


@dataclass(frozen=True, slots=True)
class _Round:
    attempts: Sequence[Attempt]
    moves: Sequence[Move]


class SubmitQueue:
    """Whoever claims jobs to send also ends those whose time is up, under the same lock."""

    def __init__(
        self,
        *,
        database: Database,
        config: QueueConfig,
        roster: Roster,
        record: Callable[[Change], Awaitable[bool]],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._config = config
        self._roster = roster
        self._record = record
        self._metrics = metrics
        self._clock = clock
        self._sweeps = Sweeps(config)
        self._asked_at = self._awake_since = clock.now()
        self._unconfirmed: dict[Lease, float] = {}
        self.gates = Gates(
            DISPATCH, GateConfig(refusals=1), roster=roster, database=database, clock=clock
        )

    async def claim(self, limit: int) -> Sequence[Attempt]:
        """Claim pending jobs to send, as many as all replicas together may have in flight."""
        at = self._clock.now()
        covered_until = self._clock.monotonic() + self._config.lease.total_seconds()
        await self._give_back()
        if at - self._asked_at > self._config.lease:
            self._awake_since = at
        since = self._sweeps.since(at=at, awake_since=self._awake_since)
        peek = partial(self._peek, since=since, at=at)
        is_startable, is_overdue = await self._database.look_up(peek)
        self._asked_at = at
        if not (is_startable or is_overdue):
            return []

        claimed: list[Lease] = []

        async def work(tx: AsyncConnection) -> _Round:
            overdue = since if is_overdue else None
            done = await self._round(
                tx, at=at, covered_until=covered_until, limit=limit, overdue=overdue
            )
            claimed[:] = [attempt.lease for attempt in done.attempts]
            return done

        try:
            done = await self._database.transact(work)
        except DatabaseUnavailableError:
            self._unconfirmed |= dict.fromkeys(claimed, covered_until)
            raise
        self.gates.whole.took(len(done.attempts), at=at)
        self._report(done, at=at)
        return done.attempts

    async def _give_back(self) -> None:
        """Put jobs back in line whose claim was not confirmed: they were certainly not sent.

        A commit that waits for a standby is invisible until it arrives there, so each claim is
        looked for until its lease is over.
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
        await asyncio.gather(*map(self._record, given_back))
        for lease in found:
            del self._unconfirmed[lease]

    async def _peek(
        self, connection: AsyncConnection, *, since: Mapping[str, datetime], at: datetime
    ) -> tuple[bool, bool]:
        """Return whether any job may be sent, and whether any job's time is up."""
        queue = QueueRepository(connection)
        is_startable, is_overdue = await queue.look_for_work(since)
        is_closed = await self.gates.whole.is_closed(connection, at=at)
        return is_startable and not is_closed, is_overdue

    async def _round(
        self,
        tx: AsyncConnection,
        *,
        at: datetime,
        covered_until: float,
        limit: int,
        overdue: Mapping[str, datetime] | None,
    ) -> _Round:
        turn = await self.gates.turn(tx, limit, accounts=self._roster.takers, at=at)
        moves = await self._sweeps.run(tx, since=overdue, at=at) if overdue else []
        started = await self._start(tx, turn, at=at, covered_until=covered_until, wanted=limit)
        starts = [move for _, move in started]
        await record_moves(tx, starts, at=at)
        return _Round([attempt for attempt, _ in started], [*moves, *starts])

    async def _start(
        self, tx: AsyncConnection, turn: Turn, *, at: datetime, covered_until: float, wanted: int
    ) -> Sequence[tuple[Attempt, Move]]:
        """Fill the free places from the line of waiting jobs, unless operators paused it."""
        queue, line = QueueRepository(tx), LineRepository(tx)
        if not turn.granted or await is_paused(tx):
            return []
        unknown_since = at - self._config.job_timeout
        users, keys = await line.count_in_flight(unknown_since=unknown_since)
        taken = min(turn.granted, sum(turn.places.values()))
        free = min(taken, self._config.max_in_flight - users.total())
        if free <= 0:
            return []
        waiting, limits = await line.first_in_line(
            users=users, keys=keys, takes_few=taken < wanted, at=at, most=free
        )
        chosen = choose(waiting, load=limits, free=free)
        if not chosen:
            return []
        load = await accounts.count_in_flight(tx) if len(turn.places) > 1 else {}
        shares = accounts.share([job.job_id for job in chosen], load=load, free=turn.places)
        token, started = new_id("attempt"), list[tuple[Attempt, Move]]()
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
        used = [attempt.lease.account for attempt, _ in started]
        await self.gates.take(tx, turn, used, at=at)
        return started

    def _report(self, done: _Round, *, at: datetime) -> None:
        log_moves(done.moves)
        for move in done.moves:
            self._metrics.moves.labels(move.state.value).inc()
        for attempt in done.attempts:
            if attempt.lease.attempts == 1:
                waited = at - attempt.lease.created_at
                self._metrics.dispatch_delay.observe(waited.total_seconds())
