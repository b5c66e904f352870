"""The jobs at RunComfy, as workers claim them to poll: many at a time, in one transaction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.db.engine import Database
from app.jobs.lanes.accounts import Gates, Roster
from app.jobs.lanes.gate import GateConfig
from app.jobs.lanes.repository import POLLS
from app.jobs.models import Lease
from app.jobs.queue.config import QueueConfig
from app.jobs.queue.repository import QueueRepository
from app.jobs.timing.poll_times import PollTimes

# RunComfy may fail the polls of one job as long as it runs, which says nothing about other jobs:
# once those have ended, such a job may be the only one left to probe with.
_PROBES = 5
# If half of all polls fail, five failures in a row soon happen by chance, and mean nothing.
_PATIENCE = timedelta(seconds=5)
# At most this many more jobs are read than may be polled, to choose the most urgent from.
_CHOICE = 256


class PollQueue:
    """Jobs that `poller` follows stay with it as long as it keeps polling."""

    def __init__(
        self,
        *,
        database: Database,
        config: QueueConfig,
        roster: Roster,
        poller: str,
        times: PollTimes,
        clock: Clock,
    ) -> None:
        self._database = database
        self._config = config
        self._roster = roster
        self._poller = poller
        self._times = times
        self._clock = clock
        self._was_busy = False
        self.gates = Gates(
            POLLS,
            GateConfig(refusals=3, probes=_PROBES, patience=_PATIENCE),
            rate=config.polls_per_second,
            roster=roster,
            database=database,
            clock=clock,
        )

    async def claim(self, limit: int) -> Sequence[Lease]:
        """Claim followed jobs that are due, within the poll budget that all replicas share.

        The claim also sets when each is due next, so a poll that finds nothing new writes nothing.
        """
        at = self._clock.now()
        await self._times.refresh()
        # If there was work last time, there will be some again: no need to look first.
        if not self._was_busy and not await self._database.look_up(partial(self._peek, at=at)):
            return []
        claimed = await self._database.transact(partial(self._claim, limit=limit, at=at))
        self.gates.whole.took(len(claimed), at=at)
        self._was_busy = bool(claimed)
        return claimed

    async def _peek(self, connection: AsyncConnection, *, at: datetime) -> bool:
        if await self.gates.whole.is_closed(connection, at=at):
            return False
        return await QueueRepository(connection).has_due_polls(
            poller=self._poller, at=at, accounts=self._roster.names
        )

    async def _claim(self, tx: AsyncConnection, *, limit: int, at: datetime) -> Sequence[Lease]:
        queue = QueueRepository(tx)
        await queue.call_off_late_starters(at=at)
        turn = await self.gates.turn(tx, limit, accounts=self._roster.names, at=at)
        if not turn.granted:
            return []
        # Jobs to try with are only borrowed, for as long as a poll may take: whoever is cut off for
        # minutes would otherwise keep them from those who are not.
        lease = self._config.lease / 3 if self.gates.whole.is_cut_off else self._config.lease
        due = await queue.due_polls(
            poller=self._poller,
            accounts=[account for account, most in turn.places.items() if most],
            at=at,
            expires_at=at + lease,
            limit=turn.granted + min(turn.granted, _CHOICE),
        )
        leases = _within(self._times.most_urgent(due, turn.granted, at=at), turn.places)
        if leases:
            await queue.reschedule((lease, self._times.next_poll(lease, at=at)) for lease in leases)
            await self.gates.take(tx, turn, [lease.account for lease in leases], at=at)
        return leases


def _within(leases: Sequence[Lease], free: Mapping[str, int]) -> Sequence[Lease]:
    """Keep as many of each account's jobs as may be polled now."""
    seen = Counter[str]()
    kept = []
    for lease in leases:
        seen[lease.account] += 1
        if seen[lease.account] <= free[lease.account]:
            kept.append(lease)
    return kept
