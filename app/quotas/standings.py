"""The standings of a caller's limits: the user's, the key's and a client token's."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo

from app.quotas.account import Account, Standing, key_account, standing_of, user_account
from app.quotas.allowances import Taken, standings_of
from app.quotas.policy import LimitName, Limits, Policy
from app.quotas.repository import QuotaRepository

CallerId = tuple[str, str, str | None]  # user, key, client token
SubjectName = Literal["user", "key", "token"]


@dataclass(frozen=True, slots=True, eq=False)
class Standings:
    """The standings at one instant, each with whose limit it is."""

    each: Sequence[tuple[SubjectName, Standing]]
    at: datetime


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose limits count, and in which zone's windows; `name` is what clients are told."""

    name: SubjectName
    account: str
    limits: Limits
    zone: ZoneInfo


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose limits a request counts against; `key_id` is its key, or its token's maker."""

    policy: Policy
    user_id: str
    key_id: str

    @cached_property
    def id(self) -> CallerId:
        return self.user_id, self.key_id, self.token_id

    @property
    def token_id(self) -> str | None:
        return None if self.policy.allowance is None else self.policy.allowance.token_id

    @cached_property
    def subjects(self) -> Sequence[Subject]:
        zone = self.policy.zone
        return (
            Subject("user", user_account(self.user_id), self.policy.user, zone),
            Subject("key", key_account(self.key_id), self.policy.key, self.policy.key_zone or zone),
        )

    def standings(
        self,
        accounts: Mapping[str, Account],
        *,
        counts: Mapping[LimitName, Mapping[str, int]],
        taken: Mapping[str, Taken],
        at: datetime,
    ) -> Standings:
        """Work out the standings from accounts, counts of jobs and what tokens have used."""
        found: list[tuple[SubjectName, Standing]] = [
            (
                subject.name,
                standing_of(
                    accounts[subject.account],
                    name,
                    limit,
                    pending=counts.get(name, {}).get(subject.account, 0),
                    zone=subject.zone,
                    at=at,
                ),
            )
            for subject in self.subjects
            for name, limit in subject.limits.items()
        ]
        allowance = self.policy.allowance
        if allowance is not None and allowance.token_id in taken:
            bounds = standings_of(allowance, taken[allowance.token_id])
            found += [("token", bound) for bound in bounds]
        return Standings(found, at)


async def count_jobs(
    quotas: QuotaRepository, callers: Sequence[Caller], *, unknown_since: datetime
) -> Mapping[LimitName, Mapping[str, int]]:
    """Count, by account, the jobs under limits on simultaneous jobs, if there are such limits."""
    limits = [
        name
        for name in (LimitName.CONCURRENT_JOBS, LimitName.PENDING_JOBS)
        if any(name in each.policy.user or name in each.policy.key for each in callers)
    ]
    return await quotas.count_jobs(
        limits,
        user_ids={each.user_id for each in callers if _is_in(each.policy.user, limits)},
        key_ids={each.key_id for each in callers if _is_in(each.policy.key, limits)},
        unknown_since=unknown_since,
    )


def _is_in(limits: Limits, names: Collection[LimitName]) -> bool:
    return any(name in limits for name in names)
