"""Deletes what nobody needs any more, in batches, while other replicas do the same."""

from typing import Any

from sqlalchemy import ColumnElement, SQLColumnExpression, bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import Database
from app.db.models.base import Base
from app.db.statements import table_of


async def prune(
    database: Database,
    row: type[Base],
    *,
    old: ColumnElement[bool],
    by: SQLColumnExpression[Any],
    limit: int,
) -> int:
    """Delete up to `limit` of the `old` rows of a table, in the order of `by`; return how many.

    `old` may ask only about the row itself: it is tested again once the row is locked. If there is
    nothing to delete, nothing is written.
    """
    table = table_of(row)
    key = list(table.primary_key)
    # One by one: given a list of pairs, SQLite would scan the whole table.
    delete_one = delete(table).where(*(each == bindparam(each.name) for each in key))

    async def look(connection: AsyncConnection) -> bool:
        return (await connection.execute(select(*key).where(old).limit(1))).first() is not None

    async def work(tx: AsyncConnection) -> int:
        locked = await tx.execute(
            select(*key).where(old).order_by(by).limit(limit).with_for_update(skip_locked=True)
        )
        found = [dict(each) for each in locked.mappings()]
        if found:
            await tx.execute(delete_one, found)
        return len(found)

    # With a row may go others that refer to it: on SQLite in a thread, beside the event loop.
    return await database.transact(work, is_long=True) if await database.read(look) else 0
