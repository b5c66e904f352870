"""The cursor in the log of all jobs: nothing is passed over, nothing comes twice."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import SystemClock
from app.db.engine import Database, open_database, opened_database
from app.db.models import JobEventRow, JobRow
from app.events import log
from app.events.cursor import Cursor, Snapshot
from app.events.log import JobEvent
from app.events.tail import Entry, Page, Whose, end_of_log, read_on
from tests.support.gateway import Gateway

WRITERS, EVENTS_EACH = 6, 10


@pytest.mark.parametrize(
    "words",
    [
        *("", "-", "x", "1-2", "1-2-", "1--3", "-1", "1.", "0x1", "1,2", "A", "f" * 16, "1.2\n"),
        "1" + ".1" * 10_000,
    ],
)
def test_what_is_no_cursor_is_not_read_as_one(words: str) -> None:
    assert Cursor.parse(words) is None


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(Snapshot(7)),
        Cursor(Snapshot.of_postgres("5:9:5,7")),
        Cursor(Snapshot(7, (3,)), Snapshot(9, (8,)), 4711),
        Cursor.by_number(12),
    ],
)
def test_a_cursor_survives_being_written(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor


def test_a_cursor_knows_what_is_before_it() -> None:
    cursor = Cursor(Snapshot(10, (4, 6)), Snapshot(15, (6, 12)), 100)
    assert cursor.has(3, 999)
    assert cursor.has(4, 100)
    assert not cursor.has(4, 101)
    assert not cursor.has(6, 1)
    assert cursor.has(11, 100)
    assert not cursor.has(12, 1)
    assert not cursor.has(15, 1)


def test_a_cursor_of_another_log_is_known_by_its_place_beyond_this_one() -> None:
    beginning, end, last = Cursor(Snapshot(0)), Cursor(Snapshot(10, (4,))), Cursor.by_number(12)
    for place in (
        *(beginning, end, Cursor(Snapshot(9)), Cursor(Snapshot(10, (4, 6)))),
        Cursor(Snapshot(8), Snapshot(10), 99),
    ):
        assert not place.is_after(end), place
    for place in (Cursor(Snapshot(11)), Cursor(Snapshot(8), Snapshot(11), 1), Cursor.by_number(1)):
        assert place.is_after(end), place
    for place in (beginning, Cursor.by_number(0), last):
        assert not place.is_after(last), place
    for place in (Cursor.by_number(13), Cursor(Snapshot(1)), Cursor(Snapshot(1), Snapshot(2), 3)):
        assert place.is_after(last), place


@dataclass
class Rivals:
    """Writers that commit in any order, and readers that are cut off at any event."""

    database: Database
    jobs: Sequence[str]
    draw: random.Random = field(default_factory=lambda: random.Random(4711))
    clock: SystemClock = field(default_factory=SystemClock)
    left: int = WRITERS

    async def pause(self) -> None:
        await self.clock.sleep(timedelta(milliseconds=self.draw.randrange(6)))

    async def write(self) -> None:
        for _ in range(EVENTS_EACH):
            await self.database.transact(self._append)
        self.left -= 1

    async def _append(self, tx: AsyncConnection) -> None:
        if tx.dialect.name == "postgresql":
            # A number of its own before the wait for a row: early transactions may end last.
            await tx.execute(text("SELECT CAST(pg_current_xact_id() AS text)"))
        await self.pause()
        job_id = self.draw.choice(self.jobs)
        taken = await tx.execute(
            update(JobRow)
            .where(JobRow.id == job_id)
            .values(event_seq=JobRow.event_seq + 1)
            .returning(JobRow.event_seq)
        )
        event = JobEvent(job_id=job_id, seq=taken.scalar_one(), type="note", at=self.clock.now())
        await log.append(tx, [event])
        await self.pause()

    async def read(self, start: Cursor) -> Sequence[Entry]:
        seen: list[Entry] = []
        cursor = start
        while True:
            is_last_round = not self.left
            page = await self.page(cursor, limit=self.draw.randint(1, 7))
            entries, cursor = page.entries, page.end
            if entries and self.draw.random() < 0.5:
                entries = entries[: self.draw.randint(1, len(entries))]
                parsed = Cursor.parse(str(entries[-1].cursor))
                assert parsed is not None
                cursor = parsed
            seen += entries
            if is_last_round and not page.entries and not page.is_full:
                return seen
            await self.pause()

    async def page(self, after: Cursor, *, limit: int, whose: Whose | None = None) -> Page:
        async def work(connection: AsyncConnection) -> Page:
            return await read_on(connection, after, whose=whose, limit=limit)

        return await self.database.read(work)


async def test_rivals_that_commit_in_any_order_are_all_read_once(
    gateway: Gateway, database_url: str
) -> None:
    database = open_database(database_url)
    rivals = Rivals(database, [(await gateway.submit())["id"] for _ in range(4)])
    start = await database.read(end_of_log)
    *_, first, second = await asyncio.gather(
        *(rivals.write() for _ in range(WRITERS)), rivals.read(start), rivals.read(start)
    )
    for seen in (first, second):
        by_job: dict[str, list[int]] = defaultdict(list)
        for entry in seen:
            by_job[entry.job_id].append(entry.seq)
        assert sum(map(len, by_job.values())) == WRITERS * EVENTS_EACH
        for seqs in by_job.values():
            assert seqs == list(range(2, len(seqs) + 2))
    mine = await rivals.page(start, limit=1000, whose=Whose("alice"))
    nobodys = await rivals.page(start, limit=1000, whose=Whose("alic", with_theirs=True))
    assert (len(mine.entries), len(nobodys.entries)) == (WRITERS * EVENTS_EACH, 0)
    end = await database.read(end_of_log)
    assert end.is_after(start)
    assert not start.is_after(end)
    beginning = Cursor.parse("0")
    assert beginning is not None
    assert not beginning.is_after(end)
    whole = await rivals.page(beginning, limit=1000)
    assert len(whole.entries) == len(rivals.jobs) + WRITERS * EVENTS_EACH
    await database.close()


async def test_events_restored_from_another_cluster_are_no_news(
    gateway: Gateway, database_url: str
) -> None:
    """Their transactions have numbers that this one has yet to come to."""
    await gateway.submit()

    async def restore(tx: AsyncConnection) -> None:
        await tx.execute(update(JobEventRow).values(xid=10**15))

    async with opened_database(database_url) as database:
        await database.transact(restore)
        start = await database.read(end_of_log)
        page = await database.read(lambda connection: read_on(connection, start, limit=100))
    assert not page.entries


async def test_what_came_while_a_page_was_taken_is_not_left_for_the_next_news(
    gateway: Gateway, database_url: str
) -> None:
    """On Postgres the rest of a page is read as of its first part: what is newer comes behind."""
    for _ in range(3):
        await gateway.submit()
    async with opened_database(database_url) as database:
        readers = Rivals(database, [])
        page = await readers.page(Cursor(Snapshot(0)), limit=2)
        seen = [*page.entries]
        await gateway.submit()
        while page.is_full:
            page = await readers.page(page.end, limit=9)
            seen += page.entries
    assert len(seen) == 4
