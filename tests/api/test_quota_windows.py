"""Windows that move, with a zone or with a clock, lose nothing that the ledger knows."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.directory.plans import PlanDirectory
from app.auth.directory.users import UserDirectory
from app.core.clock import ManualClock
from app.db.engine import Database, open_database
from app.jobs.operations.invariants import Violation, violations
from app.quotas import ledger
from app.quotas.account import Account
from app.quotas.entries import Entry, EntryKind
from app.quotas.errors import TooManySumsError
from app.quotas.ledger import Claim
from app.quotas.policy import Limit, LimitName, Measure, Period, Policy, Tally
from app.quotas.repository import QuotaRepository
from app.quotas.standings import Caller
from app.quotas.usage import Grouping, Usage, usage
from app.quotas.windows import ledger_sums, opened

UTC_ZONE, TOKYO, HONOLULU = ZoneInfo("UTC"), ZoneInfo("Asia/Tokyo"), ZoneInfo("Pacific/Honolulu")
MORNING = datetime(2026, 11, 22, 10, tzinfo=UTC)


class Counted:
    """A connection that counts the rows it reads."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.dialect = connection.dialect
        self.rows = 0

    async def execute(self, statement: Executable) -> Sequence[Any]:
        found = (await self._connection.execute(statement)).all()
        self.rows += len(found)
        return found


class Busy:
    """A connection beside which another job is accepted after each statement."""

    def __init__(self, connection: AsyncConnection, books: "Books") -> None:
        self._connection = connection
        self._books = books

    async def execute(self, statement: Executable) -> Any:
        found = await self._connection.execute(statement)
        if self._connection.dialect.name == "postgresql":  # all of a read on SQLite sees one state
            await self._books.accepted(MORNING)
        return found


class Books:
    """Accounts and ledger of a user `bob` with one key, without jobs around them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._jobs = 0

    async def hold(
        self,
        at: datetime,
        *,
        zone: ZoneInfo = UTC_ZONE,
        key_zone: ZoneInfo | None = None,
        is_known: bool = True,
        user_id: str = "bob",
        key_id: str = "key_1",
        **limits: int,
    ) -> str | None:
        """Return the new job's id, or None if it is refused; its size may be unknown."""
        self._jobs += 1
        job_id = f"job_{self._jobs}"
        user_limits = {LimitName(name): Limit(limit=Decimal(n)) for name, n in limits.items()}
        claim = Claim(
            job_id=job_id,
            caller=Caller(
                policy=Policy(zone=zone, user=user_limits, key={}, key_zone=key_zone),
                user_id=user_id,
                key_id=key_id,
            ),
            model="a/b",
            output_seconds=Decimal(5) if is_known else None,
            price_usd=Decimal("0.50") if is_known else None,
        )

        async def work(tx: AsyncConnection) -> bool:
            return not (await ledger.hold_all(tx, [claim], unknown_since=at, at=at)).refused

        return job_id if await self.database.transact(work) else None

    async def accepted(self, at: datetime) -> str:
        job_id = await self.hold(at)
        assert job_id is not None
        return job_id

    async def end(self, job_id: str, kind: EntryKind, at: datetime) -> None:
        async def work(tx: AsyncConnection) -> None:
            await ledger.end_all(tx, {job_id: kind}, at=at)

        await self.database.transact(work)

    async def rebuild(self, zone: ZoneInfo, at: datetime) -> None:
        """Count in this zone from now on, as the next hold would."""
        zones = {"user:bob": zone, "key:key_1": zone}

        async def work(tx: AsyncConnection) -> None:
            quotas = QuotaRepository(tx)
            accounts = await opened(tx, await quotas.lock_accounts(zones), zones=zones, at=at)
            await quotas.save_accounts(list(accounts.values()))

        await self.database.transact(work)

    async def accounts(self) -> dict[str, Account]:
        async def work(connection: AsyncConnection) -> dict[str, Account]:
            return await QuotaRepository(connection).find_accounts(["user:bob", "key:key_1"])

        return await self.database.read(work)

    async def jobs_of_day(self) -> Tally:
        return (await self.accounts())["user:bob"].windows[Period.DAY].tally(Measure.JOBS)

    async def usage(
        self, zone: ZoneInfo, *group_by: Grouping, around: datetime = MORNING, most: int = 100
    ) -> tuple[list[Usage], int]:
        """Tell what was used in two weeks, and from how many rows of the database."""
        since, until = around - timedelta(days=7), around + timedelta(days=7)
        rows = 0

        async def work(connection: AsyncConnection) -> list[Usage]:
            read = Counted(connection)
            found = await usage(
                cast("AsyncConnection", read),
                since=since,
                until=until,
                zone=zone,
                group_by=group_by,
                user_id="bob",
                most=most,
            )
            nonlocal rows
            rows = read.rows
            return list(found)

        return await self.database.read(work), rows

    async def assert_true(self) -> None:
        """Compare what the accounts say with the sums of the ledger over their windows."""
        accounts = await self.accounts()
        starts = {
            id_: {period: opened.start for period, opened in account.windows.items()}
            for id_, account in accounts.items()
        }

        async def work(connection: AsyncConnection) -> Any:
            return await ledger_sums(connection, starts=starts)

        sums = await self.database.read(work)
        for id_, account in accounts.items():
            for period, kept in account.windows.items():
                for measure in Measure:
                    assert kept.tally(measure) == sums[id_][period][measure], (id_, period)


@pytest.fixture
async def books(database_url: str) -> AsyncIterator[Books]:
    database = open_database(database_url)
    yield Books(database)
    await database.close()


async def test_a_rebuilt_account_says_what_the_ledger_says(books: Books) -> None:
    await books.hold(MORNING, user_id="ann", key_id="key_2")
    long_ago = await books.accepted(MORNING - timedelta(days=2))
    yesterday = await books.accepted(MORNING - timedelta(hours=16))
    settled, released = await books.accepted(MORNING), await books.accepted(MORNING)
    held = await books.accepted(MORNING)
    for job in (long_ago, settled):
        await books.end(job, EntryKind.SETTLE, MORNING)
    await books.end(released, EntryKind.RELEASE, MORNING)
    before = await books.accounts()
    await books.assert_true()
    await books.rebuild(UTC_ZONE, MORNING)
    assert await books.accounts() == before
    assert await books.jobs_of_day() == Tally(used=1, held=1)

    # Tokyo's day began at 15:00 UTC of the day before, and Honolulu's at 10:00.
    await books.rebuild(TOKYO, MORNING)
    assert await books.jobs_of_day() == Tally(used=1, held=2)
    user, key = (await books.accounts()).values()
    assert user.windows == key.windows
    await books.assert_true()
    await books.rebuild(HONOLULU, MORNING - timedelta(hours=1))
    assert await books.jobs_of_day() == Tally(used=1, held=2)
    await books.end(yesterday, EntryKind.SETTLE, MORNING)
    await books.end(held, EntryKind.SETTLE, MORNING)
    assert await books.jobs_of_day() == Tally(used=3)
    await books.assert_true()


async def test_a_job_of_unknown_size_is_rebuilt_as_a_job_and_no_more(books: Books) -> None:
    await books.hold(MORNING, is_known=False)
    await books.rebuild(TOKYO, MORNING)
    day = (await books.accounts())["user:bob"].windows[Period.DAY]
    assert [day.tally(measure) for measure in Measure] == [Tally(held=1), Tally(), Tally()]


async def test_a_zone_that_nobody_announced_is_noticed_by_the_next_hold(books: Books) -> None:
    """A replica may still know the old zone for a second; its holds must not open a window anew."""
    for _ in range(3):
        assert await books.hold(MORNING, zone=TOKYO, jobs_per_day=4)
    assert await books.hold(MORNING, zone=HONOLULU, jobs_per_day=4)
    assert await books.hold(MORNING, zone=TOKYO, jobs_per_day=4) is None
    assert await books.hold(MORNING, zone=UTC_ZONE, jobs_per_day=4) is None
    assert await books.hold(MORNING, zone=HONOLULU, jobs_per_day=4) is None
    await books.assert_true()


async def test_a_replica_whose_clock_is_behind_at_midnight_loses_no_hold(books: Books) -> None:
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    ahead, behind = midnight + timedelta(seconds=1), midnight - timedelta(seconds=1)
    for at in (ahead, behind, ahead, behind):
        job = await books.accepted(at)
        await books.assert_true()
        await books.end(job, EntryKind.RELEASE, at)
        await books.assert_true()
    assert await books.hold(ahead, jobs_per_day=1)
    assert await books.hold(behind, jobs_per_day=1) is None
    assert await books.hold(ahead, jobs_per_day=1) is None


async def test_a_key_counts_in_its_own_zone_whoever_it_acts_for(books: Books) -> None:
    await books.hold(MORNING, zone=TOKYO, key_zone=UTC_ZONE)
    await books.hold(MORNING, zone=HONOLULU, key_zone=UTC_ZONE)
    key = (await books.accounts())["key:key_1"]
    assert key.windows[Period.DAY].start == datetime(2026, 11, 22, tzinfo=UTC)
    assert key.windows[Period.DAY].tally(Measure.JOBS) == Tally(held=2)


async def test_however_many_jobs_there_were_their_use_is_read_in_few_rows(books: Books) -> None:
    """Else who asks for the use of a month holds up all others while it is added up."""
    for _ in range(20):
        await books.end(await books.accepted(MORNING), EntryKind.SETTLE, MORNING)
    await books.end(await books.accepted(MORNING), EntryKind.RELEASE, MORNING)
    await books.accepted(MORNING)
    found, rows = await books.usage(UTC_ZONE, Grouping.DAY, Grouping.MODEL, Grouping.KEY)
    (day,) = found
    assert (day.jobs, day.jobs_settled, day.jobs_released) == (22, 20, 1)
    assert (day.spend_usd, day.spend_usd_held) == (10, Decimal("0.50"))
    assert rows == 1
    assert await books.usage(UTC_ZONE) == ([replace(day, groups={})], 1)
    assert await books.usage(UTC_ZONE, around=MORNING + timedelta(days=30)) == ([], 0)


async def test_a_day_is_read_in_one_row_where_clocks_change_too(books: Books) -> None:
    change = datetime(2026, 10, 25, 12, tzinfo=UTC)
    for hour in range(-50, 50):
        await books.accepted(change + timedelta(hours=hour))
    found, rows = await books.usage(ZoneInfo("Europe/Berlin"), Grouping.DAY, around=change)
    assert [each.jobs for each in found] == [12, 24, 25, 24, 15]
    assert rows == 5


async def test_a_use_of_very_many_groups_is_refused_before_it_is_added_up(books: Books) -> None:
    """Else one question of an operator holds up all others for minutes."""
    await books.accepted(MORNING)
    await books.accepted(MORNING + timedelta(days=1))
    assert (await books.usage(UTC_ZONE, Grouping.DAY, most=2))[1] == 2
    assert (await books.usage(UTC_ZONE, most=1))[1] == 1
    with pytest.raises(TooManySumsError):
        await books.usage(UTC_ZONE, Grouping.DAY, most=1)


async def test_what_is_accepted_while_invariants_are_looked_at_breaks_none(books: Books) -> None:
    await books.accepted(MORNING)

    async def work(connection: AsyncConnection) -> Sequence[Violation]:
        return await violations(cast("AsyncConnection", Busy(connection, books)))

    assert await books.database.read(work) == []


async def test_an_account_that_is_off_the_ledger_is_named(books: Books) -> None:
    await books.accepted(MORNING)
    unwritten = Entry(
        job_id="job_2",
        kind=EntryKind.HOLD,
        user_id="bob",
        key_id="key_1",
        model="a/b",
        at=MORNING,
        held_at=MORNING,
        amounts={Measure.JOBS: 1},
    )

    async def work(tx: AsyncConnection) -> None:
        accounts = await QuotaRepository(tx).lock_accounts(["key:key_1"])
        await QuotaRepository(tx).save_accounts([accounts["key:key_1"].add(unwritten)])

    await books.database.transact(work)
    rule = "an account has what the ledger says"
    found = await books.database.read(violations)
    assert found == [Violation(rule=rule, subject="key:key_1")]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", "2026-11-22"),
        ("Asia/Kathmandu", "2026-11-22"),
        ("Europe/Berlin", "2026-10-25"),
        ("Australia/Lord_Howe", "2026-10-04"),
        ("America/Havana", "2026-11-01"),  # its midnight comes twice
        ("Africa/Cairo", "2026-04-24"),  # and this one never
        ("Pacific/Apia", "2011-12-30"),  # nor does all of this day
    ],
)
async def test_use_is_told_by_the_days_of_any_zone(books: Books, zone: str, day: str) -> None:
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    change = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    held = [midnight, midnight - timedelta(microseconds=1)]
    held += [change + timedelta(minutes=200 * n) for n in range(-20, 20)]
    for at in held:
        await books.accepted(at)
    found, _ = await books.usage(ZoneInfo(zone), Grouping.DAY, around=change)
    days = Counter(at.astimezone(ZoneInfo(zone)).date().isoformat() for at in held)
    assert {each.groups[Grouping.DAY]: each.jobs for each in found} == days


@pytest.mark.parametrize("change", ["plan's zone", "user's plan", "default plan"])
async def test_changes_of_operators_move_the_windows_once_they_are_asked_for(
    books: Books, change: str
) -> None:
    clock = ManualClock(MORNING)
    plans = PlanDirectory(database=books.database, clock=clock, known_models=list)
    users = UserDirectory(database=books.database, clock=clock)
    await plans.create("utc", {"default": True}, actor="system")
    await plans.create("tokyo", {"timezone": "Asia/Tokyo"}, actor="system")
    plan = None if change == "default plan" else "utc"
    await users.create("bob", {"plan": plan}, actor="system")
    assert await books.hold(MORNING - timedelta(hours=15))
    assert await books.hold(MORNING)
    assert await books.jobs_of_day() == Tally(held=1)
    before = await books.accounts()
    match change:
        case "plan's zone":
            await plans.change("utc", {"timezone": "Asia/Tokyo"}, actor="system")
        case "user's plan":
            await users.change("bob", {"plan": "tokyo"}, actor="system")
        case _:
            await plans.change("tokyo", {"default": True}, actor="system")
    assert await books.accounts() == before  # a plan may have very many
    zone = (await users.policy("bob")).zone
    assert zone == TOKYO
    assert await books.hold(MORNING, zone=zone, jobs_per_day=2) is None
    assert await books.hold(MORNING, zone=zone, jobs_per_day=3)
    account = (await books.accounts())["user:bob"]
    assert account.windows[Period.DAY].start == datetime(2026, 11, 21, 15, tzinfo=UTC)
    assert await books.jobs_of_day() == Tally(held=3)
    await books.assert_true()
