"""What SQLAlchemy leaves to its users in statements that are made once."""

from datetime import datetime

from sqlalchemy import BindParameter, Table, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models.base import Base, UtcDateTime


def instant(name: str) -> BindParameter[datetime]:
    """Name a time that is given when the statement runs."""
    return bindparam(name, type_=UtcDateTime())


def table_of(row: type[Base]) -> Table:
    """Give the table itself: a statement on the mapped class is put together at each execution."""
    return row.metadata.tables[row.__tablename__]


async def lock_table(tx: AsyncConnection, table: type[Base]) -> None:
    """Let writers of a table that is seldom written take turns; readers go on.

    To be called first in a transaction. SQLite has one writer anyway.
    """
    if tx.dialect.name == "postgresql":
        await tx.execute(text(f"LOCK TABLE {table.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))
