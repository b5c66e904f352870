"""Whether the gateway can do its work: its database, its schema, its workers, and upstream."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError
from app.db import schema
from app.db.engine import Database
from app.db.models import HeartbeatRow, SchemaReleaseRow
from app.db.patience import within
from app.db.statements import insert_into
from app.jobs.lanes.accounts import Roster
from app.jobs.lanes.pause import is_paused
from app.jobs.lanes.repository import DISPATCH, POLLS, LaneRepository

BEAT_EVERY = timedelta(seconds=5)
ALIVE_FOR = timedelta(seconds=30)
_FORGOTTEN = timedelta(hours=1)
_PATIENCE = timedelta(seconds=3)
_OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`submits` and `polls` are `open`, or say why no such calls go to upstream now."""

    takes_writes: bool
    is_schema_current: bool
    has_workers: bool
    submits: str
    polls: str


class HealthService:
    def __init__(self, *, database: Database, roster: Roster, clock: Clock) -> None:
        self._database = database
        self._roster = roster
        self._clock = clock
        self._takes_writes = True

    async def beat(self, worker: str) -> None:
        """Record that this process looks for work; remember whether that could be written."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> None:
            await tx.execute(
                insert_into(tx, HeartbeatRow)
                .values(worker=worker, beat_at=at)
                .on_conflict_do_update(index_elements=["worker"], set_={"beat_at": at})
            )
            await tx.execute(delete(HeartbeatRow).where(HeartbeatRow.beat_at < at - _FORGOTTEN))

        try:
            await self._database.transact(work)
        except DatabaseUnavailableError:
            self._takes_writes = False
            raise
        self._takes_writes = True

    async def read(self) -> Health:
        """Report how things are; raise DatabaseUnavailableError if finding out takes seconds."""
        at = self._clock.now()

        async def work(connection: AsyncConnection) -> Health:
            beat_at = await connection.scalar(select(func.max(HeartbeatRow.beat_at)))
            paused = await is_paused(connection)
            return Health(
                takes_writes=self._takes_writes,
                is_schema_current=await _is_current(connection),
                has_workers=beat_at is not None and at - beat_at < ALIVE_FOR,
                submits="operator" if paused else await self._lane(connection, DISPATCH, at=at),
                polls=await self._lane(connection, POLLS, at=at),
            )

        try:
            async with within(_PATIENCE):
                return await self._database.read(work)
        except TimeoutError as exc:
            raise DatabaseUnavailableError from exc

    async def _lane(self, connection: AsyncConnection, name: str, *, at: datetime) -> str:
        """Say why nothing goes out: the gateway's lane is closed, or those of all its accounts."""
        whole = await _state(connection, name, at=at)
        asked = self._roster.takers if name == DISPATCH else self._roster.names
        own = [
            await _state(connection, self._roster.lane_of(name, account), at=at)
            for account in asked
            if account in self._roster.several
        ]
        return own[0] if own and whole == _OPEN and _OPEN not in own else whole


async def _state(connection: AsyncConnection, lane_name: str, *, at: datetime) -> str:
    lane = await LaneRepository(connection).find(lane_name)
    return lane.reason.value if lane.reason is not None and lane.is_shut(at) else _OPEN


async def _is_current(connection: AsyncConnection) -> bool:
    """Whether this release can run on the schema as it is now, even if migrated meanwhile."""
    revisions = {await connection.scalar(select(schema.VERSION.c.version_num))}
    revisions.update((await connection.execute(select(SchemaReleaseRow.revision))).scalars())
    return _needed_revision() in revisions


@cache
def _needed_revision() -> str:
    """Read the newest migration that came with this code."""
    return schema.newest_revision()
