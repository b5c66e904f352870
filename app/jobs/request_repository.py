"""Whose RunComfy's requests are: each is one job's, whatever RunComfy may answer."""

from collections.abc import Iterable, Mapping

from sqlalchemy import ARRAY, Text, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.prepared import made_once
from app.db.statements import among, table_of

_JOBS = table_of(JobRow)
_ID = func.unnest(bindparam("request_ids", type_=ARRAY(Text))).column_valued("request_id")
_TURNS = made_once(
    select(func.pg_advisory_xact_lock(func.hashtextextended(_ID, 0))), wants_rows=False
)
_HOLDERS = made_once(
    select(_JOBS.c.upstream_request_id, _JOBS.c.id).where(
        among(_JOBS.c.upstream_request_id, "request_ids")
    )
)


class RequestRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def holders(self, request_ids: Iterable[str]) -> Mapping[str, str]:
        """Tell which jobs have these requests; who asks for the same one waits for this writer.

        Rivals for a request are two jobs, so no row would order them; SQLite has one writer anyway.
        """
        asked = {"request_ids": sorted(set(request_ids))}
        if self._tx.dialect.name == "postgresql":
            await self._tx.execute(_TURNS, asked)
        found = await self._tx.execute(_HOLDERS, asked)
        return {row.upstream_request_id: row.id for row in found}
