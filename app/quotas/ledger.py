"""Makes and ends holds in the caller's transaction: only what is written counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import InvalidRequestError, ProblemError
from app.quotas import shadow
from app.quotas.account import Account, excesses, key_account, user_account
from app.quotas.allowances import Taken, excess_of, lock_allowances
from app.quotas.entries import Amounts, Ending, Entry, EntryKind, amounts_of
from app.quotas.errors import (
    DurationUnknownError,
    PriceUnknownError,
    QuotaExceededError,
    TokenRevokedError,
    longest,
)
from app.quotas.policy import WINDOWED, LimitName, Limits, Measure, Policy
from app.quotas.repository import QuotaRepository
from app.quotas.shadow import Finding
from app.quotas.standings import Caller, Standings, count_jobs
from app.quotas.windows import opened


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a new job asks for, before it is accepted."""

    job_id: str
    caller: Caller
    model: str
    output_seconds: Decimal | None
    price_usd: Decimal | None

    @cached_property
    def amounts(self) -> Amounts:
        return amounts_of(output_seconds=self.output_seconds, price_usd=self.price_usd)


def unknown_amount(policy: Policy, *, model: str, amounts: Amounts) -> InvalidRequestError | None:
    """Refuse a job whose price or length is unknown if an enforced limit depends on it."""
    allowance = policy.allowance
    if allowance and allowance.max_cost_usd is not None and Measure.MICRO_USD not in amounts:
        return PriceUnknownError(model)
    for limits in (policy.user, policy.key):
        for name, limit in limits.items():
            measure, _ = WINDOWED.get(name, (Measure.JOBS, None))
            if limit.mode == "shadow" or measure in amounts:
                continue
            is_price = measure is Measure.MICRO_USD
            return PriceUnknownError(model) if is_price else DurationUnknownError()
    return None


@dataclass(frozen=True, slots=True)
class Held:
    """What became of each claim, by job: a refusal, or the caller's limits afterwards.

    `findings` are the accepted claims that shadow limits would have refused.
    """

    refused: Mapping[str, ProblemError]
    standings: Mapping[str, Standings]
    findings: Sequence[Finding]


async def hold_all(
    tx: AsyncConnection, claims: Sequence[Claim], *, unknown_since: datetime, at: datetime
) -> Held:
    """Hold what each job asks for, in the given order.

    The accounts, and after them the client tokens, stay locked until the transaction ends, so that
    no rival decides by stale sums.
    """
    repository = QuotaRepository(tx)
    subjects = [subject for claim in claims for subject in claim.caller.subjects]
    accounts = await repository.lock_accounts(subject.account for subject in subjects)
    taken = await lock_allowances(
        tx, [claim.caller.policy.allowance for claim in claims if claim.caller.policy.allowance]
    )
    counts = await count_jobs(
        repository, [claim.caller for claim in claims], unknown_since=unknown_since
    )
    pending = Counter(counts.get(LimitName.PENDING_JOBS, {}))
    refused: dict[str, ProblemError] = {}
    entries: list[Entry] = []
    findings: list[Finding] = []
    zones = {subject.account: subject.zone for subject in subjects}
    accounts = await opened(tx, accounts, zones=zones, at=at)
    for claim in claims:
        refusals, found = _verdict(claim, accounts, pending, at=at)
        if refusal := longest(refusals) or _token_refusal(claim, taken, at=at):
            refused[claim.job_id] = refusal
            continue
        if claim.caller.token_id in taken:
            taken[claim.caller.token_id] = taken[claim.caller.token_id].hold(claim.amounts)
        entry = _hold(claim, at=at)
        for subject in claim.caller.subjects:
            account = accounts[subject.account].add(entry)
            accounts[subject.account] = _submitted(account, subject.limits, at=at)
            pending[subject.account] += 1
        entries.append(entry)
        findings += found
    if findings:
        await shadow.note(tx, findings, at=at)
    if entries:
        await repository.save_accounts(list(accounts.values()))
        await repository.append(entries)
    counts = {**counts, LimitName.PENDING_JOBS: pending}
    standings = _standings(claims, accounts, counts=counts, taken=taken, at=at)
    return Held(refused, standings, findings)


async def end_all(
    tx: AsyncConnection, endings: Mapping[str, Ending], *, late: Sequence[str] = (), at: datetime
) -> None:
    """Settle or release the hold of each job; a hold that has already ended stays as it is.

    `late` jobs, which succeeded after their holds were released, are charged in the windows that
    are open now: the released hold is history, and the ledger's key prevents a second charge. All
    accounts are locked in one statement and in order, so that rivals cannot deadlock.
    """
    repository = QuotaRepository(tx)
    entries: list[Entry] = []
    if endings:
        holds = await repository.find_open_holds(endings)
        entries += [replace(hold, kind=endings[hold.job_id], at=at) for hold in holds]
    if late:
        holds = await repository.find_holds(late)
        entries += [replace(hold, kind=EntryKind.LATE_CHARGE, at=at, held_at=at) for hold in holds]
    if not entries:
        return
    touched = [
        (account, entry)
        for entry in entries
        for account in (user_account(entry.user_id), key_account(entry.key_id))
    ]
    accounts = await repository.lock_accounts(account for account, _ in touched)
    for account, entry in touched:
        accounts[account] = accounts[account].add(entry)
    await repository.save_accounts(list(accounts.values()))
    await repository.append(entries)


def _verdict(
    claim: Claim, accounts: Mapping[str, Account], pending: Mapping[str, int], *, at: datetime
) -> tuple[Sequence[QuotaExceededError], Sequence[Finding]]:
    """Return the refusals by enforced limits, and what shadow limits find."""
    refusals: list[QuotaExceededError] = []
    findings: list[Finding] = []
    for subject in claim.caller.subjects:
        for excess in excesses(
            accounts[subject.account],
            subject.limits,
            claim.amounts,
            pending=pending.get(subject.account, 0),
            zone=subject.zone,
            at=at,
        ):
            if excess.standing.mode == "enforce":
                refusals.append(QuotaExceededError(excess, subject=subject.name, at=at))
            else:
                limit = excess.standing.name.value
                findings.append(Finding(claim.caller.user_id, subject.account, limit, claim.job_id))
    return refusals, findings


def _token_refusal(
    claim: Claim, taken: Mapping[str, Taken], *, at: datetime
) -> ProblemError | None:
    allowance = claim.caller.policy.allowance
    if allowance is None or not allowance.is_bounded:
        return None
    if allowance.token_id not in taken:
        return TokenRevokedError()
    excess = excess_of(allowance, taken[allowance.token_id], claim.amounts)
    return None if excess is None else QuotaExceededError(excess, subject="client token", at=at)


def _submitted(account: Account, limits: Limits, *, at: datetime) -> Account:
    rate = limits.get(LimitName.SUBMITS_PER_MINUTE)
    return account if rate is None else account.submitted(per_minute=int(rate.limit), at=at)


def _hold(claim: Claim, *, at: datetime) -> Entry:
    return Entry(
        job_id=claim.job_id,
        kind=EntryKind.HOLD,
        user_id=claim.caller.user_id,
        key_id=claim.caller.key_id,
        token_id=claim.caller.token_id,
        model=claim.model,
        at=at,
        held_at=at,
        amounts=claim.amounts,
    )


def _standings(
    claims: Sequence[Claim],
    accounts: Mapping[str, Account],
    *,
    counts: Mapping[LimitName, Mapping[str, int]],
    taken: Mapping[str, Taken],
    at: datetime,
) -> Mapping[str, Standings]:
    """Return, by job, its caller's standings after all jobs of that caller, accepted at once."""
    callers = {claim.caller.id: claim.caller for claim in claims}
    told = {
        id_: caller.standings(accounts, counts=counts, taken=taken, at=at)
        for id_, caller in callers.items()
    }
    return {claim.job_id: told[claim.caller.id] for claim in claims}
