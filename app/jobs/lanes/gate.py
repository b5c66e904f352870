"""What this process learns from upstream's answers, and what all replicas need to know of it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError
from app.db.engine import Database
from app.jobs.lanes.lane import Lane, Reason, admit, opened, refused, slowed, told_to_wait, tripped
from app.jobs.lanes.repository import LaneRepository
from app.upstream.errors import RefusedError, UpstreamError

logger = structlog.get_logger(__name__)

_FAILURES = 5  # in a row, before this process believes that upstream is down
_OTHERS_FIRST = timedelta(seconds=1.5)  # so that they probe before the process that has failed
_LATELY = timedelta(minutes=1)


class Step(Protocol):
    def __call__(self, lane: Lane, *, at: datetime) -> Lane: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """What closes a lane: `refusals` in a row, or failures that go on for `patience`.

    On probation, `probes` failures in a row close it again.
    """

    refusals: int
    probes: int = 1
    patience: timedelta = timedelta()


class Gate:
    """A circuit breaker for one lane. Only trouble, and its end, is written to the database.

    | heard                          | what it does                                           |
    |--------------------------------|--------------------------------------------------------|
    | a refusal of the account       | as many as `refusals` in a row close the lane          |
    | a plain 403                    | the same, once for each source, unless some are let in |
    | an outage                      | five in a row that last for `patience` close it        |
    | a Retry-After                  | closes it at once                                      |
    | "busy"                         | after five only a few go at a time                     |
    | a failure of the call alone    | nothing                                                |
    | any other answer               | opens it                                               |

    In a row of failures each `source` counts once: a job whose polls keep failing says nothing
    about the others. A process that closed the lane, and keeps failing after another one has opened
    it, is in trouble itself, and pauses alone.
    """

    def __init__(self, name: str, *, config: GateConfig, database: Database, clock: Clock) -> None:
        self._name = name
        self._database = database
        self._clock = clock
        self._config = config
        self._failed: set[str] = set()
        self._failing_since = clock.now()
        self._refused: list[str] = []  # the sources of refusals in a row
        self._served_at: datetime | None = None
        self._alone = Lane()  # a lane of this process's own: how it fares by itself
        self.troubled = False
        """Whether the lane was closed, or on probation, when a claim saw it last."""

    @property
    def served_lately(self) -> bool:
        """Whether upstream has accepted this process's token within the last minute."""
        return self._served_at is not None and self._clock.now() - self._served_at < _LATELY

    @property
    def is_cut_off(self) -> bool:
        """Whether this process did not reach upstream when it last tried, whatever others do."""
        return self._alone.closed_until is not None

    def saw(self, lane: Lane) -> None:
        self.troubled = lane.closed_until is not None
        if self.troubled:
            return
        if lane.changed_at is None:  # as an operator's resume leaves it
            self._alone = Lane()
        elif _is_later(lane.changed_at, self._alone.changed_at) and self._alone.closed_until:
            # Another process has opened it: that is worth a probe at once.
            self._alone = replace(self._alone, closed_until=lane.changed_at)

    async def is_closed(self, connection: AsyncConnection, *, at: datetime) -> bool:
        """Read the lane again if there was trouble; otherwise the next claim will see it anyway."""
        if self.troubled:
            lane = await LaneRepository(connection).find(self._name)
            self.saw(lane)
            if lane.is_closed(at):
                return True
        return self._alone.is_closed(at)

    async def heard(self, error: UpstreamError | None, *, source: str, began_at: datetime) -> None:
        """Take note of the answer, or its absence, to a call that `began_at`."""
        change = self._count(error, source)
        before = self._alone
        self._alone = self._alone_after(error, change, began_at=began_at)
        if change is None:
            return
        has_tripped = change is tripped and self._alone is not before
        if has_tripped and before.closed_until is not None and not self.troubled:
            # Others are served, so the lane stays open.
            self._failed.clear()
            until = self._alone.closed_until and self._alone.closed_until.isoformat()
            logger.warning("upstream.out_of_reach", lane=self._name, until=until)
            return
        try:
            await self._write(change, began_at=began_at)
        except DatabaseUnavailableError:
            logger.warning("upstream.gate_waits_for_database", lane=self._name)

    def own_share(self, wanted: int, *, at: datetime) -> int:
        """Return how many may go by the lane of this process alone."""
        return admit(self._alone, wanted, at=at, rate=None, probes=self._config.probes)[0]

    def took(self, number: int, *, at: datetime) -> None:
        if number:
            _, self._alone = admit(
                self._alone, number, at=at, rate=None, probes=self._config.probes
            )

    def _count(self, error: UpstreamError | None, source: str) -> Step | None:
        """Count an answer among those in a row; return what it does to the lane, if anything."""
        at = self._clock.now()
        if error is None or (isinstance(error, RefusedError) and not error.account_problem):
            self._failed.clear()
            self._refused.clear()
            self._served_at = at
            return opened if self.troubled else None
        if isinstance(error, RefusedError):
            if error.could_be_the_call and (self.served_lately or source in self._refused):
                return None
            self._refused.append(source)
            is_enough = len(self._refused) >= self._config.refusals
            return partial(refused, reason=_reason(error)) if is_enough else None
        if error.retry_after:
            return partial(told_to_wait, wait=error.retry_after)
        if error.outage or error.is_busy:
            if not self._failed:
                self._failing_since = at
            self._failed.add(source)
            if self._is_down(at):
                return tripped if error.outage else slowed
        return None

    def _is_down(self, at: datetime) -> bool:
        """Whether so many failures in a row mean that upstream serves nobody."""
        if self.troubled or self.is_cut_off:
            return len(self._failed) >= self._config.probes
        return len(self._failed) >= _FAILURES and at - self._failing_since >= self._config.patience

    def _alone_after(
        self, error: UpstreamError | None, change: Step | None, *, began_at: datetime
    ) -> Lane:
        """Return how this process fares by itself, given its latest answer."""
        alone, at = self._alone, self._clock.now()
        if not _is_later(began_at, alone.changed_at):
            return alone
        if change is tripped:
            return tripped(alone, at=at + _OTHERS_FIRST)
        if error is None and alone.closed_until is not None:
            return opened(alone, at=at)
        return alone

    async def _write(self, change: Step, *, began_at: datetime) -> None:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> tuple[Lane, Lane]:
            lanes = LaneRepository(tx)
            before = await lanes.lock(self._name)
            if not _is_later(began_at, before.changed_at):
                return before, before  # it says nothing new
            after = change(before, at=at)
            if after != before:
                await lanes.save(self._name, after)
            return before, after

        before, after = await self._database.transact(work)
        self.saw(after)
        if after is before:
            return
        self._failed.clear()
        self._refused.clear()
        if after.closed_until != before.closed_until:
            _log_change(self._name, after)


def _is_later(at: datetime, than: datetime | None) -> bool:
    return than is None or at > than


def _reason(error: RefusedError) -> Reason:
    return Reason.BALANCE if error.no_balance else Reason.TOKEN


def _log_change(name: str, lane: Lane) -> None:
    if lane.reason is None:
        logger.warning("upstream.lane_opened", lane=name)
        return
    # Somebody must renew the token or pay: nothing here can fix that.
    alarm = logger.error if lane.reason in {Reason.TOKEN, Reason.BALANCE} else logger.warning
    until = None if lane.closed_until is None else lane.closed_until.isoformat()
    alarm("upstream.lane_closed", lane=name, reason=lane.reason.value, until=until)
