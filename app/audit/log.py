"""Appends to the audit log in the caller's transaction, and reads it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.ids import new_id
from app.db.engine import Database
from app.db.models import AuditRow
from app.db.records import record_of
from app.db.statements import newest


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """`actor` is an admin token's name, `cli:<os user>` or `system`; no secret is ever in it."""

    id: str
    at: datetime
    actor: str
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


async def append(
    tx: AsyncConnection,
    *,
    at: datetime,
    actor: str,
    action: str,
    target: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    await tx.execute(
        insert(AuditRow).values(
            id=new_id("audit"),
            at=at,
            actor=actor,
            action=action,
            target=target,
            before=before,
            after=after,
        )
    )


class AuditTrail:
    """The log as operators read it."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def page(self, *, before: str | None, limit: int) -> Sequence[AuditEntry]:
        """Return up to `limit` entries, newest first, older than the entry `before`."""
        page = newest(select(AuditRow), by=AuditRow.id, before=before, limit=limit)

        async def work(connection: AsyncConnection) -> Sequence[AuditEntry]:
            return [record_of(AuditEntry, row) for row in await connection.execute(page)]

        return await self._database.read(work)
