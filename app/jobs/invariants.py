"""What must always hold for jobs, ledger, accounts and events; a violation is a bug, or worse."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, case, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import AccountRow, JobEventRow, JobRow, LedgerRow
from app.jobs.state import TERMINAL, JobState
from app.quotas.policy import Measure, Period
from app.quotas.repository import EntryKind
from app.quotas.sums import ledger_sums

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """`rule` is constant text; `subject` is the job, or the account, that breaks it."""

    rule: str
    subject: str


async def violations(connection: AsyncConnection) -> Sequence[Violation]:
    """Look for broken promises on one consistent view; at most 20 of each rule."""
    found: list[Violation] = []
    for rule, broken in _RULES.items():
        found += [
            Violation(rule=rule, subject=subject)
            for subject in (await connection.execute(broken.limit(_SHOWN))).scalars()
        ]
    return found + await _accounts_off_the_ledger(connection)


def _has_entry(*kinds: EntryKind) -> Any:
    return exists().where(LedgerRow.job_id == JobRow.id, LedgerRow.kind.in_(kinds))


_last_seq = select(func.max(JobEventRow.seq)).where(JobEventRow.job_id == JobRow.id)
_events = select(func.count()).where(JobEventRow.job_id == JobRow.id)
_last_state = (
    select(JobEventRow.type)
    .where(
        JobEventRow.job_id == JobRow.id, JobEventRow.type.in_([state.value for state in JobState])
    )
    .order_by(JobEventRow.seq.desc())
    .limit(1)
)

_RULES: dict[str, Select[Any]] = {
    "every job has a hold": select(JobRow.id).where(~_has_entry(EntryKind.HOLD)),
    "a job that is not final has an open hold": select(JobRow.id).where(
        JobRow.state.not_in(TERMINAL),
        or_(JobRow.cost_state != "held", _has_entry(EntryKind.SETTLE, EntryKind.RELEASE)),
    ),
    "a final job has settled or released its hold, as it says": select(JobRow.id).where(
        JobRow.state.in_(TERMINAL),
        case(
            (JobRow.cost_state == "settled", ~_has_entry(EntryKind.SETTLE)),
            (JobRow.cost_state == "released", ~_has_entry(EntryKind.RELEASE)),
            else_=JobRow.id.is_not(None),
        ),
    ),
    "a completed job is settled, unless it was late, and a cancelled one released": select(
        JobRow.id
    ).where(
        or_(
            and_(
                JobRow.state == JobState.COMPLETED,
                JobRow.late.is_(None),
                JobRow.cost_state != "settled",
            ),
            and_(JobRow.state == JobState.CANCELLED, JobRow.cost_state != "released"),
        )
    ),
    "a late charge is that of a late job whose hold was released": select(JobRow.id).where(
        case(
            (_has_entry(EntryKind.LATE_CHARGE), 1),
            else_=0,
        )
        != case(
            (and_(JobRow.late == "charged", JobRow.cost_state == "released"), 1),
            else_=0,
        )
    ),
    "events are numbered without gaps": select(JobRow.id).where(
        or_(
            JobRow.event_seq != _last_seq.scalar_subquery(),
            JobRow.event_seq != _events.scalar_subquery(),
        )
    ),
    "the last event of state is the job's state": select(JobRow.id).where(
        JobRow.state != _last_state.scalar_subquery()
    ),
}


async def _accounts_off_the_ledger(connection: AsyncConnection) -> list[Violation]:
    rows = list(await connection.execute(select(AccountRow)))
    starts: dict[str, dict[Period, datetime]] = {
        row.id: {
            period: start
            for period in Period
            if (start := getattr(row, f"{period.value}_start")) is not None
        }
        for row in rows
    }
    sums = await ledger_sums(connection, starts={id_: some for id_, some in starts.items() if some})
    off = {
        row.id
        for row in rows
        for period in starts[row.id]
        for measure in Measure
        if (
            getattr(row, f"{period.value}_{measure.value}_used"),
            getattr(row, f"{period.value}_{measure.value}_held"),
        )
        != (sums[row.id][period][measure].used, sums[row.id][period][measure].held)
    }
    rule = "an account has what the ledger says"
    return [Violation(rule=rule, subject=account) for account in sorted(off)[:_SHOWN]]
