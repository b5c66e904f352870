"""Opens the current windows of accounts, with what the ledger says is in them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import CTE, Select, Text, and_, case, column, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from app.db.models.base import UtcDateTime
from app.db.models.quota import LedgerRow
from app.db.rows import Rows
from app.quotas.account import Account, Window
from app.quotas.entries import EFFECTS
from app.quotas.policy import Measure, Period, Tally, window

Starts = Mapping[str, Mapping[Period, datetime]]
"""When the windows of accounts began, by account id."""

Sums = Mapping[str, Mapping[Period, Mapping[Measure, Tally]]]

_OWNERS = {"user": LedgerRow.user_id, "key": LedgerRow.key_id}
_WINDOWS = Rows(
    column("account", Text),
    column("kind", Text),
    column("owner", Text),
    column("period", Text),
    column("start", UtcDateTime),
)

USED = case({kind.value: effect.used for kind, effect in EFFECTS.items()}, value=LedgerRow.kind)
HELD = case({kind.value: effect.held for kind, effect in EFFECTS.items()}, value=LedgerRow.kind)


async def opened(
    tx: AsyncConnection,
    accounts: Mapping[str, Account],
    *,
    zones: Mapping[str, ZoneInfo],
    at: datetime,
) -> dict[str, Account]:
    """Return accounts with the windows that are open now; new ones are summed up from the ledger.

    A window whose start differs from the calendar's is over, belongs to another zone, or was begun
    by a replica whose clock is ahead; in each case the ledger says what is in the right one.
    """
    starts = {id_: _starts(zones[id_], at) for id_ in accounts}
    moved = {
        id_: {period: start for period, start in starts[id_].items() if start != kept[period].start}
        for id_, account in accounts.items()
        if (kept := account.windows)
    }
    sums = await ledger_sums(tx, starts={id_: some for id_, some in moved.items() if some})
    return {
        id_: replace(
            account,
            windows={
                period: account.windows[period]
                if account.windows and period not in moved[id_]
                else Window(start=start, tallies=sums.get(id_, {}).get(period, {}))
                for period, start in starts[id_].items()
            },
        )
        for id_, account in accounts.items()
    }


async def ledger_sums(tx: AsyncConnection, *, starts: Starts) -> Sums:
    """Add up what was accepted since each start; exact while the accounts are locked."""
    sums: dict[str, dict[Period, dict[Measure, Tally]]] = {
        account: {period: {measure: Tally() for measure in Measure} for period in periods}
        for account, periods in starts.items()
    }
    windows = list(_windows(starts))
    if not windows:
        return sums
    for row in await _SUMS.execute(tx, windows):
        sums[row.account][Period(row.period)] = {
            measure: Tally(
                used=int(getattr(row, f"{measure.value}_used")),
                held=int(getattr(row, f"{measure.value}_held")),
            )
            for measure in Measure
        }
    return sums


def _starts(zone: ZoneInfo, at: datetime) -> Mapping[Period, datetime]:
    return {period: window(period, zone=zone, at=at)[0] for period in Period}


def _windows(starts: Starts) -> Iterable[dict[str, Any]]:
    for account, periods in starts.items():
        kind, _, owner = account.partition(":")
        for period, start in periods.items():
            yield {
                "account": account,
                "kind": kind,
                "owner": owner,
                "period": period.value,
                "start": start,
            }


def _added_up(wanted: CTE) -> Any:
    return union_all(*(_added_up_for(kind, owner, wanted) for kind, owner in _OWNERS.items()))


def _added_up_for(kind: str, owner: InstrumentedAttribute[str], wanted: CTE) -> Select[Any]:
    measured = {
        Measure.JOBS: 1,
        Measure.MILLISECONDS: func.coalesce(LedgerRow.milliseconds, 0),
        Measure.MICRO_USD: func.coalesce(LedgerRow.micro_usd, 0),
    }
    return (
        select(
            wanted.c.account,
            wanted.c.period,
            *(
                func.sum(sign * amount).label(f"{measure.value}_{sort}")
                for measure, amount in measured.items()
                for sort, sign in (("used", USED), ("held", HELD))
            ),
        )
        .select_from(wanted)
        .where(wanted.c.kind == kind)
        .join(LedgerRow, and_(owner == wanted.c.owner, LedgerRow.held_at >= wanted.c.start))
        .group_by(wanted.c.account, wanted.c.period)
    )


_SUMS = _WINDOWS.in_statement(_added_up)
