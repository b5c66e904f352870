"""The statements on accounts and the ledger."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import CTE, CompoundSelect, Text, and_, column, func, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models.job import JobRow
from app.db.models.quota import AccountRow, LedgerRow
from app.db.prepared import made_once
from app.db.rows import NewRows, Rows
from app.db.statements import among, insert_into, instant, one_of, table_of
from app.quotas.account import Account, Window, key_account, user_account
from app.quotas.entries import Entry, EntryKind
from app.quotas.policy import LimitName, Measure, Period, Tally

_TALLIES = {
    period: [
        (measure, f"{period.value}_{measure.value}_used", f"{period.value}_{measure.value}_held")
        for measure in Measure
    ]
    for period in Period
}
_NOTHING = Tally()
_STARTS = {period: f"{period.value}_start" for period in Period}


class QuotaRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def find_accounts(self, ids: Iterable[str]) -> dict[str, Account]:
        """Read accounts without locks; one that was never used is empty."""
        wanted = sorted(set(ids))
        found = await self._tx.execute(_ACCOUNTS, {"ids": wanted})
        return {id_: Account(id=id_) for id_ in wanted} | {row.id: _account(row) for row in found}

    async def lock_accounts(self, ids: Iterable[str]) -> dict[str, Account]:
        """Read accounts under their row locks, taken in the order of their ids."""
        wanted = sorted(set(ids))
        ids = {"ids": wanted}
        accounts = {row.id: _account(row) for row in await self._tx.execute(_LOCKED, ids)}
        if len(accounts) < len(wanted):
            fresh = [_row(Account(id=id_)) for id_ in wanted if id_ not in accounts]
            await self._tx.execute(
                insert_into(self._tx, AccountRow).values(fresh).on_conflict_do_nothing()
            )
            accounts = {row.id: _account(row) for row in await self._tx.execute(_LOCKED, ids)}
        return accounts

    async def save_accounts(self, accounts: Sequence[Account]) -> None:
        """Write back accounts that were locked in this transaction."""
        await _SAVE.execute(self._tx, [_row(each) for each in accounts])

    async def append(self, entries: Sequence[Entry]) -> None:
        await _ENTRIES.add(self._tx, [_entry_row(entry) for entry in entries])

    async def find_open_holds(self, job_ids: Iterable[str]) -> Sequence[Entry]:
        """Return the holds of these jobs that were neither settled nor released."""
        found = await self._tx.execute(_OPEN_HOLDS, {"ids": sorted(set(job_ids))})
        return [_entry(row) for row in found]

    async def find_holds(self, job_ids: Iterable[str]) -> Sequence[Entry]:
        """Return the holds of these jobs, ended or not."""
        found = await self._tx.execute(_HOLDS, {"ids": sorted(set(job_ids))})
        return [_entry(row) for row in found]

    async def find_entries(self, job_id: str) -> Sequence[Entry]:
        found = await self._tx.execute(select(LedgerRow).where(LedgerRow.job_id == job_id))
        order = list(EntryKind)
        return sorted(map(_entry, found), key=lambda entry: order.index(entry.kind))

    async def count_jobs(
        self,
        limits: Collection[LimitName],
        *,
        user_ids: Collection[str],
        key_ids: Collection[str],
        unknown_since: datetime,
    ) -> Mapping[LimitName, Mapping[str, int]]:
        """Count the jobs that limits on simultaneous jobs apply to, by account, from their rows.

        A submit whose outcome has been unknown since before `unknown_since` is not in flight.
        """
        counted: dict[LimitName, Counter[str]] = {limit: Counter() for limit in limits}
        limit_of = {state: limit for limit in limits for state in COUNTED_STATES[limit]}
        since = {"unknown_since": unknown_since}
        if user_ids and limit_of:
            asked = [{"id": id_, "state": state} for id_ in user_ids for state in limit_of]
            found = await _OF_USERS.execute(self._tx, asked, **since)
            for id_, state, count in found:
                counted[limit_of[state]][user_account(id_)] += count
        if key_ids and limit_of:
            found = await self._tx.execute(
                _of_keys(frozenset(limit_of)), {"ids": sorted(key_ids), **since}
            )
            for id_, state, count in found:
                counted[limit_of[state]][key_account(id_)] += count
        return counted


# Made once, since building a statement takes longer than running it.
_ACCOUNTS = made_once(select(AccountRow).where(among(AccountRow.id, "ids")))
_LOCKED = made_once(_ACCOUNTS.order_by(AccountRow.id).with_for_update())
_TABLE = table_of(AccountRow)
_ROWS = Rows(*_TABLE.columns)
_SAVE = _ROWS.in_statement(
    lambda new: (
        update(_TABLE)
        .where(_TABLE.c.id == new.c.id)
        .values({each: new.c[each.name] for each in _TABLE.c if each.name != "id"})
    )
)
_ENTRIES = NewRows(LedgerRow)
_HOLDS = made_once(
    select(LedgerRow).where(among(LedgerRow.job_id, "ids"), LedgerRow.kind == EntryKind.HOLD)
)
_OPEN_HOLDS = made_once(
    _HOLDS.where(
        LedgerRow.job_id.not_in(
            select(LedgerRow.job_id).where(
                among(LedgerRow.job_id, "ids"),
                one_of(LedgerRow.kind, [EntryKind.SETTLE, EntryKind.RELEASE]),
            )
        )
    )
)


_UNKNOWN = "submit_unknown"
_ASKED = Rows(column("id", Text), column("state", Text))
_STILL_UNKNOWN = JobRow.lease_expires_at > instant("unknown_since")


def _of_users(asked: CTE) -> CompoundSelect[Any]:
    """Count jobs by user and state, each in one index range; unknown ones by reading their rows.

    Only faults make unknown ones, so they are few; of the others a user may have any number.
    """
    jobs = select(func.count()).where(JobRow.user_id == asked.c.id, JobRow.state == asked.c.state)
    unknown = jobs.where(_STILL_UNKNOWN)
    return union_all(
        select(asked, jobs.scalar_subquery()).where(asked.c.state != _UNKNOWN),
        select(asked, unknown.scalar_subquery()).where(asked.c.state == _UNKNOWN),
    )


@cache
def _of_keys(states: frozenset[str]) -> CompoundSelect[Any]:
    """Count jobs by key and state, in one scan, since no index begins with a key."""
    count = select(JobRow.key_id, JobRow.state, func.count()).group_by(JobRow.key_id, JobRow.state)
    asked = and_(among(JobRow.key_id, "ids"), one_of(JobRow.state, states))
    return made_once(
        union_all(
            count.where(asked, JobRow.state != _UNKNOWN),
            count.where(asked, JobRow.state == _UNKNOWN, _STILL_UNKNOWN),
        )
    )


_OF_USERS = _ASKED.in_statement(_of_users)

# The states of jobs/state.py, which this room must not import; a test compares the two.
COUNTED_STATES: Mapping[LimitName, Sequence[str]] = {
    LimitName.PENDING_JOBS: ("pending",),
    LimitName.CONCURRENT_JOBS: ("submitting", "in_queue", "in_progress", _UNKNOWN),
}


def _account(row: Any) -> Account:
    starts = {period: getattr(row, name) for period, name in _STARTS.items()}
    return Account(
        id=row.id,
        arrival_us=row.arrival_us,
        windows={
            period: Window(
                start=start,
                tallies={
                    measure: Tally(used=getattr(row, used), held=getattr(row, held))
                    for measure, used, held in _TALLIES[period]
                },
            )
            for period, start in starts.items()
            if start is not None
        },
    )


def _row(account: Account) -> dict[str, Any]:
    row: dict[str, Any] = {"id": account.id, "arrival_us": account.arrival_us}
    for period, name in _STARTS.items():
        opened = account.windows.get(period)
        row[name] = None if opened is None else opened.start
        for measure, used, held in _TALLIES[period]:
            tally = _NOTHING if opened is None else opened.tally(measure)
            row[used], row[held] = tally.used, tally.held
    return row


def _entry(row: Any) -> Entry:
    known = {
        Measure.JOBS: 1,
        Measure.MILLISECONDS: row.milliseconds,
        Measure.MICRO_USD: row.micro_usd,
    }
    return Entry(
        job_id=row.job_id,
        kind=EntryKind(row.kind),
        user_id=row.user_id,
        key_id=row.key_id,
        token_id=row.token_id,
        model=row.model,
        at=row.at,
        held_at=row.held_at,
        amounts={measure: units for measure, units in known.items() if units is not None},
    )


def _entry_row(entry: Entry) -> dict[str, Any]:
    return {
        "job_id": entry.job_id,
        "kind": entry.kind.value,
        "user_id": entry.user_id,
        "key_id": entry.key_id,
        "token_id": entry.token_id,
        "model": entry.model,
        "at": entry.at,
        "held_at": entry.held_at,
        "milliseconds": entry.amounts.get(Measure.MILLISECONDS),
        "micro_usd": entry.amounts.get(Measure.MICRO_USD),
    }
