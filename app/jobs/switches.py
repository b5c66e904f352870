"""What operators can switch for all replicas."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import SwitchRow
from app.db.statements import insert_into

DISPATCH_PAUSED = "dispatch_paused"


async def is_on(connection: AsyncConnection, switch: str) -> bool:
    found = await connection.execute(select(SwitchRow.is_on).where(SwitchRow.name == switch))
    return bool(found.scalar_one_or_none())


async def turn(tx: AsyncConnection, switch: str, *, on: bool) -> None:
    row = insert_into(tx, SwitchRow).values(name=switch, is_on=on)
    await tx.execute(
        row.on_conflict_do_update(
            index_elements=[SwitchRow.name], set_={"is_on": row.excluded.is_on}
        )
    )
