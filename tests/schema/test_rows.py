"""Rows that are sent as one parameter arrive as they were, on either database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import JSON, BigInteger, Text, column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import opened_database
from app.db.models.base import UtcDateTime
from app.db.rows import Rows

ROWS = Rows(
    column("words", Text),
    column("number", BigInteger),
    column("at", UtcDateTime),
    column("document", JSON(none_as_null=True)),
)
ALL = ROWS.in_statement(select)
AT = datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)


async def sent(database_url: str, *rows: dict[str, Any]) -> Sequence[tuple[Any, ...]]:
    """Send rows to a database and ask for them back in the same statement."""

    async def work(connection: AsyncConnection) -> Sequence[tuple[Any, ...]]:
        return [tuple(row) for row in await ALL.execute(connection, rows)]

    async with opened_database(database_url) as database:
        return await database.read(work)


async def test_values_arrive_as_they_were(database_url: str) -> None:
    document = {"größe": [2**70, 0.1, "𝄞\\u0041\"'", None, {"deep": {}}]}
    odd = "0042 \"'\\ \n ☃ 𝄞"
    found = await sent(
        database_url,
        {"words": odd, "number": 2**63 - 1, "at": AT, "document": document},
        {"words": "1e5", "number": -(2**63), "at": AT, "document": {}},
    )
    assert sorted(found, key=str) == [
        (odd, 2**63 - 1, AT, document),
        ("1e5", -(2**63), AT, {}),
    ]


async def test_what_is_not_named_or_none_is_null(database_url: str) -> None:
    assert (
        await sent(database_url, {"words": "a"}, {"words": "a", "document": None})
        == [("a", None, None, None)] * 2
    )


async def test_times_are_kept_in_utc(database_url: str) -> None:
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert await sent(database_url, {"at": there}) == [(None, None, AT, None)]


@pytest.mark.parametrize("value", [AT.replace(tzinfo=None), Decimal(1)])
async def test_what_cannot_be_stored_is_refused(database_url: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match="cannot be stored"):
        await sent(database_url, {"at": value})
