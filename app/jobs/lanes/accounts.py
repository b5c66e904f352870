"""Which account a job is sent with, and the lane that each account has within the gateway's."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.db.engine import Database
from app.db.models import JobRow
from app.jobs.lanes.gate import Gate, GateConfig
from app.jobs.lanes.lane import Lane, admit
from app.jobs.lanes.repository import LaneRepository
from app.jobs.state import IN_FLIGHT, WATCHED
from app.upstream.accounts import DEFAULT
from app.upstream.errors import RefusedError, UpstreamError

ACCOUNT = func.coalesce(JobRow.account, DEFAULT)
# Watched ones included. An index finds them, however many jobs have ended.
IS_OPEN_UPSTREAM = or_(
    JobRow.state.in_(IN_FLIGHT), and_(JobRow.state.in_(WATCHED), JobRow.due_at.is_not(None))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """The accounts whose jobs this process follows; `takers` are those that take new ones."""

    names: tuple[str, ...] = (DEFAULT,)
    takers: tuple[str, ...] = (DEFAULT,)

    @property
    def several(self) -> tuple[str, ...]:
        """The accounts with lanes of their own: a single one uses the gateway's."""
        return self.names if len(self.names) > 1 else ()

    def lane_of(self, name: str, account: str) -> str:
        return f"{name}/{account}" if account in self.several else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one claim may do: `granted` calls in all, and with each account at most its `places`.

    `own` has the lanes of those accounts whose own lanes were ever closed.
    """

    granted: int
    places: Mapping[str, int]
    lane: Lane
    own: Mapping[str, Lane]


class Gates:
    """The gateway's lane to upstream; several accounts each have one of their own within it.

    What concerns one account moves only its own lane: a refusal, a Retry-After, or a 429. At most
    `rate` calls go each second.
    """

    def __init__(
        self,
        name: str,
        config: GateConfig,
        *,
        rate: int | None = None,
        roster: Roster,
        database: Database,
        clock: Clock,
    ) -> None:
        self._name = name
        self._admit = partial(admit, rate=rate, probes=config.probes)
        gate = partial(Gate, config=config, database=database, clock=clock)
        self.whole = gate(name)
        self._names = {account: roster.lane_of(name, account) for account in roster.several}
        self._own = {account: gate(lane) for account, lane in self._names.items()}

    def troubled(self, account: str) -> bool:
        return self._own.get(account, self.whole).troubled

    def served_lately(self, account: str) -> bool:
        return self._own.get(account, self.whole).served_lately

    async def heard(
        self, account: str, error: UpstreamError | None, *, source: str, began_at: datetime
    ) -> None:
        """Take note of the answer, or its absence, to a call of this account that `began_at`."""
        own = self._own.get(account)
        is_of_account = (
            error is None or isinstance(error, RefusedError) or error.is_busy or error.retry_after
        )
        if own is not None and is_of_account:
            await own.heard(error, source=source, began_at=began_at)
            error = None
        await self.whole.heard(error, source=source, began_at=began_at)

    async def turn(
        self, tx: AsyncConnection, limit: int, *, accounts: Iterable[str], at: datetime
    ) -> Turn:
        """Lock the lane until the transaction ends; return what may go with these accounts.

        What goes is counted by `take`, and after the commit by `whole.took`.
        """
        lane = await LaneRepository(tx).lock(self._name)
        self.whole.saw(lane)
        granted, _ = self._admit(lane, limit, at=at)
        granted = self.whole.own_share(granted, at=at)
        own = await self._touched(tx) if granted and self._own else {}
        places = {
            account: admit(own.get(account, Lane()), granted, at=at, rate=None)[0]
            for account in accounts
        }
        return Turn(granted=granted, places=places, lane=lane, own=own)

    async def take(
        self, tx: AsyncConnection, turn: Turn, used: Sequence[str], *, at: datetime
    ) -> None:
        """Count the calls that go; `used` has the account of each."""
        if not used:
            return
        lanes = LaneRepository(tx)
        _, after = self._admit(turn.lane, len(used), at=at)
        if after != turn.lane:
            await lanes.save(self._name, after)
        for account, number in sorted(Counter(used).items()):
            if own := turn.own.get(account):
                _, after = admit(own, number, at=at, rate=None)
                await lanes.save(self._names[account], after)

    async def _touched(self, tx: AsyncConnection) -> Mapping[str, Lane]:
        """Lock those of the accounts' own lanes that were ever closed."""
        lanes, own = LaneRepository(tx), dict[str, Lane]()
        touched = await lanes.find_touched([*self._names.values()])
        for account, name in sorted(self._names.items()):
            if name in touched:
                own[account] = await lanes.lock(name)
            self._own[account].saw(own.get(account, Lane()))
        return own


def share(
    job_ids: Sequence[str], *, load: Mapping[str, int], free: Mapping[str, int]
) -> Mapping[str, Sequence[str]]:
    """Give each job the account with the fewest in flight among those with a free place."""
    shares: dict[str, list[str]] = {account: [] for account in free}
    for job_id in job_ids:
        open_to = [account for account, most in free.items() if len(shares[account]) < most]
        if not open_to:
            break
        chosen = min(open_to, key=lambda name: (load.get(name, 0) + len(shares[name]), name))
        shares[chosen].append(job_id)
    return {account: ids for account, ids in shares.items() if ids}


async def count_in_flight(tx: AsyncConnection) -> Counter[str]:
    return await _count(tx, JobRow.state.in_(IN_FLIGHT))


async def count_unfinished(tx: AsyncConnection) -> Counter[str]:
    """Count, by account, the jobs that still need its token, watched ones included."""
    return await _count(tx, IS_OPEN_UPSTREAM)


async def _count(tx: AsyncConnection, of_these: ColumnElement[bool]) -> Counter[str]:
    found = await tx.execute(select(ACCOUNT, func.count()).where(of_these).group_by(ACCOUNT))
    return Counter({row[0]: row[1] for row in found})
