"""A database from behind: changes that no call offers, and all that is stored."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, select, text


def change(database_url: str, statement: str, **values: Any) -> None:
    """Run one statement in a transaction of its own, beside a gateway that is running."""
    engine = _engine(database_url)
    with engine.begin() as connection:
        assert connection.execute(text(statement), values).rowcount != 0
    engine.dispose()


def look(database_url: str, query: str) -> list[Any]:
    """Return what a query finds."""
    engine = _engine(database_url)
    with engine.connect() as connection:
        found = list(connection.execute(text(query)))
    engine.dispose()
    return found


def rows(database_url: str) -> str:
    """Return every row of every table as text."""
    engine = _engine(database_url)
    tables = MetaData()
    with engine.connect() as connection:
        tables.reflect(connection)
        found = [
            tuple(row)
            for table in tables.sorted_tables
            for row in connection.execute(select(table))
        ]
    engine.dispose()
    return str(found)


def stored(database_url: str) -> str:
    """Return all rows, and the bytes of the files that SQLite has, where what is deleted stays."""
    folder = Path(database_url.removeprefix("sqlite:///")).parent
    files = folder.iterdir() if database_url.startswith("sqlite") else ()
    return rows(database_url) + "".join(
        path.read_text("latin-1") for path in files if path.is_file()
    )


def _engine(database_url: str) -> Engine:
    return create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
