"""Statements that are made once: what the driver gets for them, and what comes back."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Executable, bindparam, event, insert, literal, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import prepared
from app.db.engine import Database, open_database
from app.db.models import HeartbeatRow, SwitchRow
from app.db.prepared import Prepared, PreparedStatements, made_once
from app.db.statements import instant, table_of
from tests.support.statements import all_made_once

DIALECTS = (sqlite.dialect(), PGDialectAsync_psycopg())
SWITCHES = table_of(SwitchRow)
ADD = made_once(insert(SWITCHES).values(name=bindparam("of"), is_on=True))
NAMES = made_once(select(SWITCHES.c.name).order_by(SWITCHES.c.name))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


async def names(connection: AsyncConnection) -> list[str]:
    return [*(await connection.execute(NAMES)).scalars()]


def is_prepared(statement: Executable) -> bool:
    """Return whether one of the databases takes it; some are made for one of them alone."""
    for dialect in DIALECTS:
        with suppress(AttributeError):  # what only the other one's compiler knows
            return bool(Prepared(statement, dialect))
    return False


def test_each_statement_that_is_made_once_has_the_same_text_with_any_parameters() -> None:
    statements = all_made_once()
    assert len(statements) > 20
    for statement in statements:
        assert is_prepared(statement), statement


def test_a_list_that_would_be_put_into_the_text_is_refused() -> None:
    statement = made_once(select(SWITCHES.c.name).where(SWITCHES.c.name.in_(bindparam("names"))))
    with pytest.raises(ValueError, match="POSTCOMPILE"):
        Prepared(statement, DIALECTS[0])
    del prepared._made_once[statement]  # noqa: SLF001 - it is none of ours


def test_what_is_made_of_a_statement_is_another_one() -> None:
    statements = PreparedStatements()
    assert statements.find(NAMES, DIALECTS[0])
    assert statements.find(NAMES.limit(1), DIALECTS[0]) is None


async def test_times_and_texts_come_back_as_sqlalchemy_gives_them(database: Database) -> None:
    table = table_of(HeartbeatRow)
    add = made_once(insert(table).values(worker=bindparam("of"), beat_at=instant("at")))
    at = datetime(2026, 11, 29, 1, 30, tzinfo=timezone(timedelta(hours=2)))

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(add, {"of": "a worker: 50%", "at": at})
        driven = (await tx.execute(made_once(select(table)))).one()
        assert driven == (await tx.execute(select(table))).one()
        assert (driven.worker, driven.beat_at) == ("a worker: 50%", at)
        assert driven.beat_at.tzinfo is UTC

    await database.transact(work)


@pytest.mark.parametrize("word", ["50%", "%%(of)s", "it's", "a\\b", ":of"])
async def test_words_come_back_as_they_are(database: Database, word: str) -> None:
    said = made_once(select(literal(word)))
    assert await database.read(lambda connection: connection.scalar(said)) == word


async def test_what_fails_while_nobody_waits_for_it_fails_the_transaction(
    database: Database,
) -> None:
    async def add_twice(tx: AsyncConnection) -> None:
        for _ in range(2):
            await tx.execute(ADD, {"of": "a"})
        await tx.execute(ADD, {"of": "b"})

    with pytest.raises(IntegrityError) as caught:
        await database.transact(add_twice)
    assert "parameters" not in str(caught.value)
    assert await database.read(names) == []
    await database.transact(lambda tx: tx.execute(ADD, {"of": "a"}))
    assert await database.look_up(names) == ["a"]


@pytest.mark.parametrize("ways", ["driver first", "sqlalchemy first"])
async def test_both_ways_lead_through_one_transaction(database: Database, ways: str) -> None:
    async def add(tx: AsyncConnection) -> list[str]:
        plain = insert(SWITCHES).values(is_on=True)
        statements = [ADD, plain.values(name="b")]
        for statement in statements if ways == "driver first" else reversed(statements):
            await tx.execute(statement, {"of": "a"} if statement is ADD else None)
        return await names(tx)

    assert await database.transact(add) == ["a", "b"]
    assert await database.read(names) == ["a", "b"]


async def test_who_watches_hears_of_each_statement(database: Database) -> None:
    heard: list[str] = []
    await database.transact(lambda tx: tx.execute(ADD, {"of": "a"}))
    for engine in database.watch():
        event.listen(engine, "before_cursor_execute", lambda *of: heard.append(of[2]))
    await database.transact(lambda tx: tx.execute(ADD, {"of": "b"}))
    assert await database.read(names) == ["a", "b"]
    assert [text.split()[0] for text in heard] == ["INSERT", "SELECT"]
