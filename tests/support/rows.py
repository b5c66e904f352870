"""Direct access to a database: changes that no call offers, and all that is stored."""

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, NullPool, bindparam, create_engine, select, text

from app.db.models.base import UtcDateTime


def change(database_url: str, statement: str, **values: Any) -> None:
    """Run one statement in a transaction of its own, beside a gateway that is running."""
    # Typed as in the gateway: sqlite3's own conversion of times is deprecated.
    times = [
        bindparam(name, type_=UtcDateTime)
        for name, value in values.items()
        if isinstance(value, datetime)
    ]
    with _engine(database_url).begin() as connection:
        assert connection.execute(text(statement).bindparams(*times), values).rowcount != 0


def look(database_url: str, query: str) -> list[Any]:
    """Return what a query finds."""
    with _engine(database_url).connect() as connection:
        return list(connection.execute(text(query)))


def rows(database_url: str) -> str:
    """Return every row of every table as text."""
    tables = MetaData()
    with _engine(database_url).connect() as connection:
        tables.reflect(connection)
        found = [
            tuple(row)
            for table in tables.sorted_tables
            for row in connection.execute(select(table))
        ]
    return str(found)


def stored(database_url: str) -> str:
    """Return all rows, and the bytes of SQLite's files, where deleted data may remain."""
    folder = Path(database_url.removeprefix("sqlite:///")).parent
    files = folder.iterdir() if database_url.startswith("sqlite") else ()
    return rows(database_url) + "".join(
        path.read_text("latin-1") for path in files if path.is_file()
    )


def _engine(database_url: str) -> Engine:
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    return create_engine(url, poolclass=NullPool)
