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


class Gates:
    """A lane to upstream; where there are several accounts, each has one of its own within it.

    What concerns one account moves only its own lane: a refusal, a Retry-After, or a 429.
    """

    def __init__(
        self, name: str, config: GateConfig, *, roster: Roster, database: Database, clock: Clock
    ) -> None:
        gate = partial(Gate, config=config, database=database, clock=clock)
        self.whole = gate(name)
        self._names = {account: roster.lane_of(name, account) for account in roster.several}
        self._own = {account: gate(lane) for account, lane in self._names.items()}

    def troubled(self, account: str) -> bool:
        return self._own.get(account, self.whole).troubled

    def serves(self, account: str) -> bool:
        return self._own.get(account, self.whole).serves

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

    async def lanes(self, tx: AsyncConnection) -> dict[str, Lane]:
        """Read the accounts' own lanes, if they have any, and lock those that were ever closed."""
        if not self._names:
            return {}
        repository = LaneRepository(tx)
        touched = await repository.find_touched(list(self._names.values()))
        lanes = dict.fromkeys(self._own, Lane())
        for account, name in sorted(self._names.items()):
            if name in touched:
                lanes[account] = await repository.lock(name)
            self._own[account].saw(lanes[account])
        return lanes

    async def take(
        self, tx: AsyncConnection, lanes: Mapping[str, Lane], used: Mapping[str, int], at: datetime
    ) -> None:
        """Count what goes through the accounts' own lanes."""
        for account, number in sorted(used.items()):
            if account in lanes and lanes[account].changed_at is not None:
                _, lane = admit(lanes[account], number, at=at, rate=None)
                await LaneRepository(tx).save(self._names[account], lane)


def slots(
    lanes: Mapping[str, Lane], accounts: Iterable[str], wanted: int, *, at: datetime
) -> dict[str, int]:
    """Return how many calls may go with each account now."""
    return {
        account: admit(lanes[account], wanted, at=at, rate=None)[0] if account in lanes else wanted
        for account in accounts
    }


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
    is_watched = and_(JobRow.state.in_(WATCHED), JobRow.due_at.is_not(None))
    return await _count(tx, or_(JobRow.state.in_(IN_FLIGHT), is_watched))


async def _count(tx: AsyncConnection, of_these: ColumnElement[bool]) -> Counter[str]:
    found = await tx.execute(select(ACCOUNT, func.count()).where(of_these).group_by(ACCOUNT))
    return Counter({row[0]: row[1] for row in found})
