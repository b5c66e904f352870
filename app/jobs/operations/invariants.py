"""What must always hold for jobs, ledger, accounts and events; a violation is a bug, or worse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CompoundSelect, Select, and_, case, exists, func, or_, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import AccountRow, JobEventRow, JobRow, LedgerRow
from app.jobs.state import TERMINAL, JobState
from app.quotas.entries import EntryKind
from app.quotas.policy import Measure, Period
from app.quotas.windows import HELD, USED

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """`rule` is constant text; `subject` is the job, or the account, that breaks it."""

    rule: str
    subject: str


async def violations(connection: AsyncConnection) -> Sequence[Violation]:
    """Look for broken rules; return at most 20 violations of each.

    Each rule is one statement, so it sees one snapshot of the data whatever is written meanwhile.
    """
    found: list[Violation] = []
    for rule, broken in _RULES.items():
        found += [
            Violation(rule=rule, subject=subject)
            for subject in (await connection.execute(broken.limit(_SHOWN))).scalars()
        ]
    return found


def _has_entry(*kinds: EntryKind) -> Any:
    return exists().where(LedgerRow.job_id == JobRow.id, LedgerRow.kind.in_(kinds))


def _off_the_ledger(kind: str, owner: Any, period: Period) -> Select[Any]:
    """Find accounts of that kind whose window of that period differs from the ledger's sum."""
    amounts: dict[Measure, Any] = {
        Measure.JOBS: 1,
        Measure.MILLISECONDS: LedgerRow.milliseconds,
        Measure.MICRO_USD: LedgerRow.micro_usd,
    }
    start = getattr(AccountRow, f"{period.value}_start")
    prefix = f"{kind}:"
    return (
        select(AccountRow.id)
        .outerjoin(
            LedgerRow,
            and_(owner == func.substr(AccountRow.id, len(prefix) + 1), LedgerRow.held_at >= start),
        )
        .where(func.substr(AccountRow.id, 1, len(prefix)) == prefix, start.is_not(None))
        .group_by(AccountRow.id)
        .having(
            or_(
                *(
                    func.coalesce(func.sum(sign * amount), 0)
                    != getattr(AccountRow, f"{period.value}_{measure.value}_{sort}")
                    for measure, amount in amounts.items()
                    for sort, sign in (("used", USED), ("held", HELD))
                )
            )
        )
    )


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

_RULES: dict[str, Select[Any] | CompoundSelect[Any]] = {
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
        case((_has_entry(EntryKind.LATE_CHARGE), 1), else_=0)
        != case((and_(JobRow.late == "charged", JobRow.cost_state == "released"), 1), else_=0)
    ),
    "events are numbered without gaps": select(JobRow.id).where(
        JobRow.erased_at.is_(None),  # its events were deleted
        or_(
            JobRow.event_seq != _last_seq.scalar_subquery(),
            JobRow.event_seq != _events.scalar_subquery(),
        ),
    ),
    "the last event of state is the job's state": select(JobRow.id).where(
        JobRow.state != _last_state.scalar_subquery()
    ),
    "an account has what the ledger says": union(
        *(
            _off_the_ledger(kind, owner, period)
            for kind, owner in (("user", LedgerRow.user_id), ("key", LedgerRow.key_id))
            for period in Period
        )
    ),
}
