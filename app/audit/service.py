"""The audit log as operators read it."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit.log import AuditEntry, page
from app.db.engine import Database


class AuditTrail:
    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def page(self, *, before: str | None, limit: int) -> Sequence[AuditEntry]:
        """Return up to `limit` entries, newest first, older than the entry `before`."""

        async def work(connection: AsyncConnection) -> Sequence[AuditEntry]:
            return await page(connection, before=before, limit=limit)

        return await self._database.read(work)
