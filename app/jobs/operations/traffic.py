"""Whether jobs are sent and followed, and the switch by which operators stop the sending."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import log as audit
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.db.engine import Database
from app.jobs.lanes.accounts import Roster, count_unfinished
from app.jobs.lanes.lane import Lane, Reason, forgiven
from app.jobs.lanes.pause import is_paused, set_paused
from app.jobs.lanes.repository import DISPATCH, POLLS, LaneRepository
from app.jobs.operations.repository import OperatorRepository


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountTraffic:
    """An account, the jobs that its token is needed for, and its own lanes."""

    name: str
    drains: bool
    unfinished: int
    submits: Lane
    polls: Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    is_paused: bool
    submits: Lane
    polls: Lane
    accounts: Sequence[AccountTraffic]


class JobTraffic:
    def __init__(
        self, *, database: Database, clock: Clock, dispatcher: Doorbell, roster: Roster
    ) -> None:
        self._database = database
        self._clock = clock
        self._dispatcher = dispatcher
        self._roster = roster

    async def read(self) -> Traffic:
        """Return whether jobs are sent and followed, and if not, why."""

        async def work(connection: AsyncConnection) -> Traffic:
            lanes = LaneRepository(connection)
            unfinished = await count_unfinished(connection)
            return Traffic(
                is_paused=await is_paused(connection),
                submits=await lanes.find(DISPATCH),
                polls=await lanes.find(POLLS),
                accounts=[
                    AccountTraffic(
                        name=name,
                        drains=name not in self._roster.takers,
                        unfinished=unfinished[name],
                        submits=await lanes.find(self._roster.lane_of(DISPATCH, name)),
                        polls=await lanes.find(self._roster.lane_of(POLLS, name)),
                    )
                    for name in self._roster.names
                ],
            )

        return await self._database.read(work)

    async def set_paused(self, *, paused: bool, actor: str) -> None:
        """Pause or resume sending; jobs are accepted and followed either way.

        Resuming opens lanes that refusals or failures closed, but ends no Retry-After.
        """
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> None:
            before = await is_paused(tx)
            await set_paused(tx, paused=paused)
            if not paused:
                await _reopen(tx, at=at)
            await audit.append(
                tx,
                at=at,
                actor=actor,
                action="dispatch.pause" if paused else "dispatch.resume",
                target="dispatch",
                before={"paused": before},
                after={"paused": paused},
            )

        await self._database.transact(work)
        self._dispatcher.ring()


async def _reopen(tx: AsyncConnection, *, at: datetime) -> None:
    lanes = LaneRepository(tx)
    for name in await lanes.find_closed():
        lane = await lanes.lock(name)
        if lane.closed_until is not None and lane.reason is not Reason.RETRY_AFTER:
            await lanes.save(name, forgiven(lane))
    await OperatorRepository(tx).send_refused_again(at=at)
