"""Windows of accounts, rebuilt from the ledger when they are not those of the calendar."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from app.quotas.account import Account, Window
from app.quotas.policy import Period, window
from app.quotas.sums import ledger_sums


async def opened(
    tx: AsyncConnection,
    accounts: Mapping[str, Account],
    *,
    zones: Mapping[str, ZoneInfo],
    at: datetime,
) -> dict[str, Account]:
    """Return locked accounts with the windows that are open now; new windows are summed up.

    A window that began at another time than the calendar says is over, or of another zone, or was
    begun by a replica whose clock is ahead; in each case the ledger says what is in it.
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


def _starts(zone: ZoneInfo, at: datetime) -> Mapping[Period, datetime]:
    return {period: window(period, zone=zone, at=at)[0] for period in Period}
