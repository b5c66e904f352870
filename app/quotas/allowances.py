"""How much client tokens have used of what they may: the ledger added up by token."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models.client_token import ClientTokenRow
from app.db.models.quota import LedgerRow
from app.quotas.account import Excess, Standing
from app.quotas.entries import Amounts
from app.quotas.policy import Allowance, AllowanceName, Measure, Tally, from_units
from app.quotas.windows import HELD, USED


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    jobs: Tally = field(default_factory=Tally)
    micro_usd: Tally = field(default_factory=Tally)

    def hold(self, amounts: Amounts) -> "Taken":
        """Add one job's amounts to what is held."""
        return Taken(
            jobs=_more(self.jobs, amounts.get(Measure.JOBS, 0)),
            micro_usd=_more(self.micro_usd, amounts.get(Measure.MICRO_USD, 0)),
        )


async def lock_allowances(tx: AsyncConnection, allowances: Iterable[Allowance]) -> dict[str, Taken]:
    """Lock the tokens that have bounds and return what each has used; revoked ones are missing.

    Only the ledger counts, so what frees a hold need not touch tokens. A release that is committed
    just now may make the sums too high for an instant, never too low.
    """
    bounded = {each.token_id for each in allowances if each.is_bounded}
    if not bounded:
        return {}
    locked = await tx.execute(
        select(ClientTokenRow.id)
        .where(ClientTokenRow.id.in_(sorted(bounded)))
        .order_by(ClientTokenRow.id)
        .with_for_update()
    )
    return await find_taken(tx, list(locked.scalars()))


async def find_taken(connection: AsyncConnection, token_ids: Sequence[str]) -> dict[str, Taken]:
    if not token_ids:
        return {}
    cost = func.coalesce(LedgerRow.micro_usd, 0)
    found = await connection.execute(
        select(
            LedgerRow.token_id,
            func.sum(USED).label("jobs_used"),
            func.sum(HELD).label("jobs_held"),
            func.sum(USED * cost).label("cost_used"),
            func.sum(HELD * cost).label("cost_held"),
        )
        .where(LedgerRow.token_id.in_(token_ids))
        .group_by(LedgerRow.token_id)
    )
    return dict.fromkeys(token_ids, Taken()) | {
        row.token_id: Taken(
            jobs=Tally(used=int(row.jobs_used), held=int(row.jobs_held)),
            micro_usd=Tally(used=int(row.cost_used), held=int(row.cost_held)),
        )
        for row in found
    }


def standings_of(allowance: Allowance, taken: Taken) -> Iterator[Standing]:
    """Yield the standing of each bound; none is ever reset."""
    if allowance.max_jobs is not None:
        limit = Decimal(allowance.max_jobs)
        yield _standing(AllowanceName.MAX_JOBS, limit, Measure.JOBS, taken.jobs)
    if allowance.max_cost_usd is not None:
        limit = allowance.max_cost_usd
        yield _standing(AllowanceName.MAX_COST_USD, limit, Measure.MICRO_USD, taken.micro_usd)


def excess_of(allowance: Allowance, taken: Taken, amounts: Amounts) -> Excess | None:
    """Return the first bound that one more job would exceed, if any."""
    measures = {AllowanceName.MAX_JOBS: Measure.JOBS, AllowanceName.MAX_COST_USD: Measure.MICRO_USD}
    for standing in standings_of(allowance, taken):
        measure = measures[AllowanceName(standing.name)]
        requested = from_units(measure, amounts.get(measure, 0))
        if standing.used + standing.held + requested > standing.limit:
            return Excess(standing=standing, requested=requested)
    return None


def _standing(name: AllowanceName, limit: Decimal, measure: Measure, tally: Tally) -> Standing:
    return Standing(
        name=name,
        mode="enforce",
        limit=limit,
        used=from_units(measure, tally.used),
        held=from_units(measure, tally.held),
        resets_at=None,
    )


def _more(tally: Tally, units: int) -> Tally:
    return Tally(used=tally.used, held=tally.held + units)
