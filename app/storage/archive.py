"""Our copies of outputs, since RunComfy forgets its own: where they are, and what is at risk."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.db.engine import Database
from app.db.models import OutputRow
from app.db.records import record_of
from app.storage.store import Storage

CopyState = Literal["waiting", "archived", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRecord:
    """`key` is where the copy is, once there is one; it never leaves the server."""

    job_id: str
    n: int
    key: str
    state: CopyState
    attempts: int
    due_at: datetime | None
    reason: str | None
    size: int | None
    sha256: str | None
    media_type: str | None
    duration: timedelta | None
    codec: str | None
    created_at: datetime
    archived_at: datetime | None
    at_risk: bool

    @property
    def id(self) -> str:
        return f"{self.job_id}/{self.n}"


class Archive:
    """An output is at risk once it has waited for its copy for `risk_after`."""

    def __init__(
        self, *, database: Database, storage: Storage | None, risk_after: timedelta, clock: Clock
    ) -> None:
        self._database = database
        self._storage = storage
        self._risk_after = risk_after
        self._clock = clock

    async def find(self, job_id: str, n: int) -> OutputRecord | None:
        """Return an output's copy; None until there is a complete one."""
        if self._storage is None:
            return None
        at = self._clock.now()

        async def work(connection: AsyncConnection) -> OutputRecord | None:
            found = await connection.execute(
                self._outputs(at).where(
                    OutputRow.job_id == job_id, OutputRow.n == n, OutputRow.state == "archived"
                )
            )
            row = found.one_or_none()
            return None if row is None else _record(row)

        copy = await self._database.look_up(work)
        is_whole = copy is not None and await self._storage.size(copy.key) == copy.size
        return copy if is_whole else None

    def read(self, copy: OutputRecord, start: int, stop: int) -> AsyncIterator[bytes]:
        assert self._storage is not None
        return self._storage.read(copy.key, start=start, stop=stop)

    async def page(
        self, *, at_risk: bool | None, before: tuple[str, int] | None, limit: int
    ) -> Sequence[OutputRecord]:
        """Return outputs, those of the newest jobs first."""
        at = self._clock.now()
        newest = OutputRow.job_id.desc(), OutputRow.n.desc()
        page = self._outputs(at).order_by(*newest).limit(limit)
        if at_risk is not None:
            risky = self._is_at_risk(at)
            page = page.where(risky if at_risk else ~risky)
        if before is not None:
            page = page.where(tuple_(OutputRow.job_id, OutputRow.n) < tuple_(*before))

        async def work(connection: AsyncConnection) -> Sequence[OutputRecord]:
            return [_record(row) for row in await connection.execute(page)]

        return await self._database.read(work)

    async def count_at_risk(self) -> int:
        """Count the outputs that have waited so long for a copy that upstream may forget them."""
        counted = (
            select(func.count()).select_from(OutputRow).where(self._is_at_risk(self._clock.now()))
        )

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(counted)).scalar_one()

        return await self._database.read(work)

    def _is_at_risk(self, at: datetime) -> ColumnElement[bool]:
        return and_(OutputRow.state == "waiting", OutputRow.created_at <= at - self._risk_after)

    def _outputs(self, at: datetime) -> Select[Any]:
        return select(*OutputRow.__table__.c, self._is_at_risk(at).label("at_risk"))


def _record(row: Any) -> OutputRecord:
    return record_of(
        OutputRecord,
        row,
        key=row.storage_key,
        duration=None if row.duration_ms is None else timedelta(milliseconds=row.duration_ms),
    )
