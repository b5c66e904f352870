"""What shadow limits would have refused, counted by day, to be read before enforcing one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database
from app.db.models import ShadowFindingRow
from app.db.records import record_of
from app.db.statements import insert_into, newest

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """A job that was accepted over a shadow limit of an account."""

    user_id: str
    account: str
    limit: str
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfFindings:
    """`account` is `user:<id>` or `key:<id>`, whose limit it was."""

    id: str
    day: str
    user_id: str
    account: str
    limit: str
    count: int
    last_at: datetime
    last_job_id: str


class ShadowFindings:
    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def page(
        self, *, user_id: str | None, before: str | None, limit: int
    ) -> Sequence[DayOfFindings]:
        """Return up to `limit` days of findings, newest first, older than the id `before`."""
        days = select(ShadowFindingRow.__table__)
        if user_id is not None:
            days = days.where(ShadowFindingRow.user_id == user_id)
        page = newest(days, by=ShadowFindingRow.id, before=before, limit=limit)

        async def work(connection: AsyncConnection) -> Sequence[DayOfFindings]:
            found = await connection.execute(page)
            return [record_of(DayOfFindings, row, limit=row.limit_name) for row in found]

        return await self._database.read(work)


async def note(tx: AsyncConnection, findings: Sequence[Finding], *, at: datetime) -> None:
    """Count what was found; the accounts are locked, so nobody else is counting for them."""
    day = at.astimezone(UTC).date().isoformat()
    rows: dict[str, dict[str, Any]] = {}
    for finding in findings:
        id_ = f"{day}/{finding.limit}/{finding.account}/{finding.user_id}"
        row = rows.setdefault(
            id_,
            {
                "id": id_,
                "day": day,
                "user_id": finding.user_id,
                "account": finding.account,
                "limit_name": finding.limit,
                "count": 0,
                "last_at": at,
            },
        )
        row["count"] += 1
        row["last_job_id"] = finding.job_id
    new = insert_into(tx, ShadowFindingRow)
    counted = new.on_conflict_do_update(
        index_elements=[ShadowFindingRow.id],
        set_={
            "count": ShadowFindingRow.count + new.excluded.count,
            "last_at": new.excluded.last_at,
            "last_job_id": new.excluded.last_job_id,
        },
    )
    await tx.execute(counted, list(rows.values()))


def log_findings(findings: Sequence[Finding]) -> None:
    """Log what was found; call it once that is committed."""
    for finding in findings:
        logger.warning(
            "limit.would_refuse",
            limit=finding.limit,
            account=finding.account,
            job_id=finding.job_id,
        )
