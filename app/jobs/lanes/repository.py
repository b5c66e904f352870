"""The statements on lanes, whose rows are also how replicas take turns."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import LaneRow
from app.db.prepared import made_once
from app.db.records import columns_of, record_of
from app.db.statements import insert_into, table_of
from app.jobs.lanes.lane import Lane, Reason

DISPATCH = "dispatch"
POLLS = "polls"

_TABLE = table_of(LaneRow)
_NAMED = _TABLE.c.name == bindparam("lane")
_LANE = made_once(select(*columns_of(LaneRow, Lane)).where(_NAMED))
_LOCKED = made_once(_LANE.with_for_update())
_SAVE = made_once(
    update(_TABLE)
    .where(_NAMED)
    .values(
        {each: bindparam(f"new_{each.name}", type_=each.type) for each in columns_of(LaneRow, Lane)}
    )
)


class LaneRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def find(self, name: str) -> Lane:
        """Read a lane; one that was never used is open."""
        row = (await self._tx.execute(_LANE, {"lane": name})).one_or_none()
        return Lane() if row is None else _lane(row)

    async def find_touched(self, names: Sequence[str]) -> AbstractSet[str]:
        """Return which of these lanes were ever closed."""
        found = await self._tx.execute(
            select(LaneRow.name).where(LaneRow.name.in_(names), LaneRow.changed_at.is_not(None))
        )
        return set(found.scalars())

    async def find_closed(self) -> Sequence[str]:
        """Name all lanes that are closed or on probation, in the order to lock them in."""
        found = await self._tx.execute(
            select(LaneRow.name).where(LaneRow.closed_until.is_not(None)).order_by(LaneRow.name)
        )
        return found.scalars().all()

    async def lock(self, name: str) -> Lane:
        """Read a lane under its row lock, which is held until the end of the transaction."""
        row = (await self._tx.execute(_LOCKED, {"lane": name})).one_or_none()
        if row is None:
            await self._tx.execute(
                insert_into(self._tx, LaneRow)
                .values(name=name, arrival_us=0, trips=0)
                .on_conflict_do_nothing()
            )
            row = (await self._tx.execute(_LOCKED, {"lane": name})).one()
        return _lane(row)

    async def save(self, name: str, lane: Lane) -> None:
        await self._tx.execute(
            _SAVE,
            {"lane": name, **{f"new_{field}": value for field, value in asdict(lane).items()}},
        )


def _lane(row: Any) -> Lane:
    return record_of(Lane, row, reason=row.reason and Reason(row.reason))
