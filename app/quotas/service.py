"""The standings of a caller's limits, and the rate limit on calls that cost nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.quotas.account import Account, excesses
from app.quotas.allowances import find_taken
from app.quotas.errors import QuotaExceededError, longest
from app.quotas.policy import LimitName
from app.quotas.repository import QuotaRepository
from app.quotas.standings import Caller, CallerId, Standings, Subject, count_jobs
from app.quotas.usage import Grouping, Usage, usage
from app.quotas.windows import opened

_RECENT_S = 1.0
_MOST_RECENT = 10_000


class QuotaService:
    """A submit of unknown outcome counts as in flight for `job_timeout`, as it does at dispatch."""

    def __init__(self, *, database: Database, clock: Clock, job_timeout: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._job_timeout = job_timeout
        self._recent: dict[CallerId, tuple[float, Standings]] = {}
        self._read = NaturalBatch(self._read_all)

    async def standings(self, caller: Caller) -> Standings:
        """Return the standing of each limit of user, key and client token, without locks."""
        policy = caller.policy
        if not (policy.user or policy.key or (policy.allowance and policy.allowance.is_bounded)):
            return Standings((), self._clock.now())
        return await self._read(caller)

    async def _read_all(self, asking: Sequence[Caller]) -> Sequence[Standings]:
        """Answer all callers with the same few statements, each by its latest policy."""
        at = self._clock.now()
        callers = {each.id: each for each in asking}
        subjects = [subject for each in callers.values() for subject in each.subjects]
        token_ids = [token_id for _, _, token_id in callers if token_id is not None]

        async def work(connection: AsyncConnection) -> Mapping[CallerId, Standings]:
            quotas = QuotaRepository(connection)
            accounts = await quotas.find_accounts(subject.account for subject in subjects)
            counts = await count_jobs(quotas, asking, unknown_since=at - self._job_timeout)
            taken = await find_taken(connection, token_ids)
            # A window that no request has begun yet may hold a late charge: the ledger knows.
            zones = {subject.account: subject.zone for subject in subjects}
            current = await opened(connection, accounts, zones=zones, at=at)
            return {
                caller: each.standings(current, counts=counts, taken=taken, at=at)
                for caller, each in callers.items()
            }

        told = await self._database.look_up(work)
        return [told[each.id] for each in asking]

    async def recent_standings(self, caller: Caller, *, fresh: bool) -> Standings:
        """Return the same, up to a second old unless `fresh`, since every answer carries it."""
        now = self._clock.monotonic()
        kept = self._recent.get(caller.id)
        if kept is not None and not fresh and now - kept[0] < _RECENT_S:
            return kept[1]
        standings = await self.standings(caller)
        if len(self._recent) >= _MOST_RECENT:
            self._recent.clear()
        self._recent[caller.id] = (now, standings)
        return standings

    async def usage(
        self,
        *,
        since: datetime,
        until: datetime,
        zone: ZoneInfo,
        group_by: Sequence[Grouping],
        user_id: str | None,
    ) -> Sequence[Usage]:
        """Add up the ledger over a span, for one user or, with None, for all."""
        return await self._database.search(
            lambda tx: usage(
                tx, since=since, until=until, zone=zone, group_by=group_by, user_id=user_id
            ),
            whose=user_id,
            is_long=user_id is None,
        )

    async def count_submit(self, caller: Caller) -> None:
        """Take one of the submits per minute, or raise QuotaExceededError and take none."""
        at = self._clock.now()
        rated = _rated(caller)

        async def work(tx: AsyncConnection) -> None:
            quotas = QuotaRepository(tx)
            accounts = await quotas.lock_accounts(subject.account for subject in rated)
            _require_rate(rated, accounts, at=at)
            await quotas.save_accounts(
                [
                    accounts[subject.account].submitted(per_minute=int(rate.limit), at=at)
                    for subject in rated
                    for rate in subject.limits.values()
                ]
            )

        if rated:
            await self._database.transact(work)

    async def check_rate(self, caller: Caller) -> None:
        """Raise QuotaExceededError if no submit is left for now, but take none."""
        at = self._clock.now()
        rated = _rated(caller)

        async def work(connection: AsyncConnection) -> None:
            quotas = QuotaRepository(connection)
            accounts = await quotas.find_accounts(subject.account for subject in rated)
            _require_rate(rated, accounts, at=at)

        if rated:
            await self._database.look_up(work)


def _rated(caller: Caller) -> Sequence[Subject]:
    """Return the subjects that have a rate limit, stripped of all other limits."""
    return [
        replace(subject, limits={LimitName.SUBMITS_PER_MINUTE: rate})
        for subject in caller.subjects
        if (rate := subject.limits.get(LimitName.SUBMITS_PER_MINUTE)) is not None
    ]


def _require_rate(
    rated: Sequence[Subject], accounts: Mapping[str, Account], *, at: datetime
) -> None:
    refusal = longest(
        QuotaExceededError(excess, subject=subject.name, at=at)
        for subject in rated
        for excess in excesses(
            accounts[subject.account], subject.limits, {}, pending=0, zone=subject.zone, at=at
        )
        if excess.standing.mode == "enforce"
    )
    if refusal is not None:
        raise refusal
