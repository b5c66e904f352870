"""What operators can switch for all replicas: whether jobs are sent."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import SwitchRow
from app.db.prepared import made_once
from app.db.statements import insert_into

_DISPATCH_PAUSED = "dispatch_paused"

PAUSED = made_once(
    select(SwitchRow.is_on).where(SwitchRow.name == _DISPATCH_PAUSED, SwitchRow.is_on)
)
"""Finds a row while sending is paused."""


async def is_paused(connection: AsyncConnection) -> bool:
    return (await connection.execute(PAUSED)).first() is not None


async def set_paused(tx: AsyncConnection, *, paused: bool) -> None:
    row = insert_into(tx, SwitchRow).values(name=_DISPATCH_PAUSED, is_on=paused)
    await tx.execute(
        row.on_conflict_do_update(
            index_elements=[SwitchRow.name], set_={"is_on": row.excluded.is_on}
        )
    )
