"""The ledger added up for accounts: what their windows have to say."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnClause,
    Select,
    Text,
    and_,
    case,
    column,
    func,
    select,
    union_all,
    values,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from app.db.models.base import UtcDateTime
from app.db.models.quota import LedgerRow
from app.db.statements import typed_rows
from app.quotas.policy import Measure, Period, Tally
from app.quotas.repository import EntryKind

Starts = Mapping[str, Mapping[Period, datetime]]
"""When the windows of accounts began, by account id."""

Sums = Mapping[str, Mapping[Period, Mapping[Measure, Tally]]]

_AT_ONCE = 500  # a statement takes only so many parameters
_OWNERS = {"user": LedgerRow.user_id, "key": LedgerRow.key_id}
_WINDOW: tuple[ColumnClause[Any], ...] = (
    column("account", Text),
    column("owner", Text),
    column("period", Text),
    column("start", UtcDateTime),
)
_Window = tuple[str, str, str, datetime]

_USED = case(
    (LedgerRow.kind.in_([EntryKind.SETTLE, EntryKind.LATE_CHARGE]), 1),
    else_=0,
)
# A hold and its end name the same amounts and the same `held_at`: an end takes its hold away.
_HELD = case(
    (LedgerRow.kind == EntryKind.HOLD, 1),
    (LedgerRow.kind.in_([EntryKind.SETTLE, EntryKind.RELEASE]), -1),
    else_=0,
)


async def ledger_sums(tx: AsyncConnection, *, starts: Starts) -> Sums:
    """Add up what was accepted since each start; exact while the accounts are locked."""
    sums: dict[str, dict[Period, dict[Measure, Tally]]] = {
        account: {period: {measure: Tally() for measure in Measure} for period in periods}
        for account, periods in starts.items()
    }
    for some in _batches(list(_windows(starts))):
        for row in await tx.execute(_added_up(some)):
            sums[row.account][Period(row.period)] = {
                measure: Tally(
                    used=int(getattr(row, f"{measure.value}_used")),
                    held=int(getattr(row, f"{measure.value}_held")),
                )
                for measure in Measure
            }
    return sums


def _windows(starts: Starts) -> Iterable[_Window]:
    for account, periods in starts.items():
        for period, start in periods.items():
            yield account, account.partition(":")[2], period.value, start


def _batches(windows: Sequence[_Window]) -> Iterable[Sequence[_Window]]:
    return (windows[first : first + _AT_ONCE] for first in range(0, len(windows), _AT_ONCE))


def _added_up(windows: Sequence[_Window]) -> Any:
    parts = []
    for kind, owner in _OWNERS.items():
        rows = [window for window in windows if window[0].startswith(f"{kind}:")]
        if rows:
            parts.append(_added_up_for(owner, rows, name=f"{kind}_windows"))
    return parts[0] if len(parts) == 1 else union_all(*parts)


def _added_up_for(
    owner: InstrumentedAttribute[str], rows: Sequence[_Window], *, name: str
) -> Select[Any]:
    wanted = values(*_WINDOW, name=name).data(typed_rows(_WINDOW, rows)).cte(f"{name}_wanted")
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
                for sort, sign in (("used", _USED), ("held", _HELD))
            ),
        )
        .select_from(wanted)
        .join(LedgerRow, and_(owner == wanted.c.owner, LedgerRow.held_at >= wanted.c.start))
        .group_by(wanted.c.account, wanted.c.period)
    )
