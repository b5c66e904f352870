"""Many workers on one database: nothing is done twice, and no limit is for each of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.repository import AuthRepository
from app.bootstrap.workers import Workers
from app.core.clock import ManualClock
from app.db.engine import open_database, opened_database
from app.db.users import keep_user
from app.jobs.change_repository import ChangeRepository
from app.jobs.moves import record_moves
from app.jobs.operations.repository import ManualChange, OperatorRepository
from app.jobs.state import IN_FLIGHT, JobState
from app.storage import job_files
from app.storage.job_files import FileUse
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.invariants import read_jobs
from tests.support.pictures import data_uri, png
from tests.support.workbench import workbench

RIVALS = 5


@pytest.fixture
async def rivals(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[list[Workers]]:
    """Yield the workers of five gateways on one database."""
    async with AsyncExitStack() as stack:
        opened = [
            running(
                database_url, sandbox=sandbox, clock=clock, max_in_flight=12, polls_per_second=10
            )
            for _ in range(RIVALS)
        ]
        yield [(await stack.enter_async_context(each)).workers for each in opened]


async def many(gateway: Gateway, number: int, words: str = "") -> None:
    await asyncio.gather(*(gateway.submit(words) for _ in range(number)))


async def test_no_job_is_claimed_by_two(gateway: Gateway, rivals: list[Workers]) -> None:
    await many(gateway, 30)
    rounds = await asyncio.gather(*(each.dispatcher.claim(3) for each in rivals for _ in range(4)))
    claimed = Counter(attempt.lease.job_id for attempts in rounds for attempt in attempts)
    assert set(claimed.values()) == {1}
    assert len(claimed) == 12
    assert max(len(attempts) for attempts in rounds) <= 3


async def test_in_flight_is_one_limit_for_all(
    gateway: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    """Also while jobs end, fail, come back and become unknown."""
    words = (
        *("sandbox:instant", "sandbox:stuck", "sandbox:lost-answer"),
        *("sandbox:submit-429=2", "sandbox:submit-400001", "sandbox:fail sandbox:instant"),
    )
    for each in words:
        await many(gateway, 4, each)
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(
                running(database_url, sandbox=sandbox, clock=clock, max_in_flight=9)
            )
            for _ in range(3)
        ]
        highest = 0
        for _ in range(12):
            rounds = [each.dispatch() for each in replicas] + [each.poll() for each in replicas]
            await asyncio.gather(*rounds)
            jobs = await read_jobs(database_url)
            in_flight = sum(row.state in IN_FLIGHT for row, _ in jobs.values())
            assert in_flight <= 9
            highest = max(highest, in_flight)
            clock.advance(timedelta(seconds=3))
        assert highest == 9
    seen = (await sandbox.http.get("/sandbox/requests")).json()["requests"]
    accepted = Counter(each["input"]["prompt"] for each in seen if each["accepted"])
    assert set(accepted.values()) == {1}


async def test_polls_are_one_budget_for_all(
    gateway: Gateway, rivals: list[Workers], clock: ManualClock
) -> None:
    """Ten at once from rest, then ten in every further second, whoever asks and how often."""
    await many(gateway, 40, "sandbox:stuck-in-queue sandbox:no-position")
    while await gateway.dispatch():
        pass
    clock.advance(timedelta(seconds=120))

    async def claimed() -> int:
        rounds = await asyncio.gather(*(each.poller.claim(4) for each in rivals for _ in range(3)))
        jobs = Counter(lease.job_id for leases in rounds for lease in leases)
        assert set(jobs.values()) <= {1}
        return len(list(jobs.elements()))

    assert await claimed() == 10
    assert await claimed() == 0
    for _ in range(3):
        clock.advance(timedelta(milliseconds=500))
        assert await claimed() == 5
    clock.advance(timedelta(milliseconds=99))
    assert await claimed() == 0
    clock.advance(timedelta(milliseconds=1))
    assert await claimed() == 1


async def test_a_sweep_keeps_its_limit_by_any_plan_of_the_database(
    gateway: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    """Left to nested loops, Postgres runs a plain subquery anew, and its LIMIT with it."""
    asked = gateway.body() | {"start_within_seconds": 60}
    jobs = [(await gateway.http.post("/v1/jobs", json=asked)).json() for _ in range(5)]
    gateway.wait(60)
    if database_url.startswith("postgresql"):
        _leave_nested_loops_alone(database_url)  # for what connects from now on
    async with workbench(
        database_url, upstream_url=sandbox.url, clock=clock, swept_at_once=2
    ) as bench:
        await bench.dispatcher.claim(1)
    statuses = [(await gateway.read(job))["status"] for job in jobs]
    assert statuses.count("cancelled") == 2


def _leave_nested_loops_alone(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for plan in ("hashjoin", "mergejoin", "hashagg", "sort", "material"):
            name = SQL("ALTER DATABASE {} SET {} = off")
            database = Identifier(connection.info.dbname)
            connection.execute(name.format(database, Identifier(f"enable_{plan}")))


async def test_a_user_made_while_its_service_is_deleted_goes_with_it(
    gateway: Gateway, database_url: str
) -> None:
    await gateway.client_of("shop")
    database = open_database(database_url)

    async def make(tx: AsyncConnection) -> asyncio.Future[httpx.Response]:
        await keep_user(tx, "shop")
        await AuthRepository(tx).ensure_user("shop/u1", at=gateway.clock.now())
        erasing = asyncio.ensure_future(gateway.admin.delete("/v1/admin/users/shop"))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.shield(erasing)
        return erasing

    try:
        assert (await (await database.transact(make))).status_code == 204
    finally:
        await database.close()
    users = (await gateway.admin.get("/v1/admin/users")).json()["data"]
    assert [user["id"] for user in users] == ["alice"]


async def test_a_user_is_erased_by_one_of_several_operators(gateway: Gateway) -> None:
    await gateway.client_of("shop")
    path = "/v1/admin/users/shop"
    answers = await asyncio.gather(*(gateway.admin.delete(path) for _ in range(RIVALS)))
    assert sorted(each.status_code for each in answers) == [204, *[404] * (RIVALS - 1)]
    actions = Counter(entry["action"] for entry in await gateway.audited())
    assert actions["user.deleted"] == 1


async def test_a_file_that_is_just_named_again_outlives_the_job_it_was_made_for(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    kept = f"file://{tmp_path}/kept"
    async with (
        running(database_url, sandbox=sandbox, clock=clock, storage_url=kept) as gateway,
        opened_database(database_url) as database,
    ):
        picture = data_uri(png(400, 400, size=5000))
        first = await gateway.submit("sandbox:instant", first_frame_image_url=picture)
        await gateway.follow(first)
        file_id = first["input"]["first_frame_image_url"]
        second = await gateway.submit()
        uses = {second["id"]: [FileUse("/first_frame_image_url", file_id)]}

        async def name_again(tx: AsyncConnection) -> asyncio.Future[httpx.Response]:
            assert await job_files.lock_usable(tx, uses, at=clock.now()) == {(file_id, "alice")}
            await job_files.link(tx, uses, expires_at=clock.now())
            erasing = asyncio.ensure_future(gateway.http.delete(f"/v1/jobs/{first['id']}"))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await asyncio.shield(erasing)
            return erasing

        assert (await (await database.transact(name_again))).status_code == 204
        assert (await gateway.http.get(f"/v1/files/{file_id}/content")).status_code == 200


async def test_a_job_that_is_erased_while_a_late_request_is_noted_is_watched(
    gateway: Gateway, database_url: str
) -> None:
    job = await gateway.submit()
    [attempt] = await gateway.workers.dispatcher.claim(32)
    for hours in (1, 24):
        gateway.wait(hours * 3600)
        await gateway.dispatch()
    assert (await gateway.read(job))["error"]["code"] == "submit_unknown"

    async def note(tx: AsyncConnection) -> asyncio.Future[httpx.Response]:
        at, lease = gateway.clock.now(), attempt.lease
        watch = {"account": lease.account, "watch_until": at + timedelta(hours=1)}
        await ChangeRepository(tx).note_request(job["id"], "req-late", **watch, at=at)
        erasing = asyncio.ensure_future(gateway.http.delete(f"/v1/jobs/{job['id']}"))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.shield(erasing)
        return erasing

    async with opened_database(database_url) as database:
        assert (await (await database.transact(note))).status_code == 204
    row, events = (await read_jobs(database_url))[job["id"]]
    assert (row.upstream_request_id, row.input, events) == ("req-late", {}, [])
    assert row.watch_until is not None
    assert (await gateway.http.get(f"/v1/jobs/{job['id']}")).status_code == 404


async def test_who_acts_on_a_job_second_tells_what_the_first_left(
    gateway: Gateway, database_url: str
) -> None:
    job = await gateway.submit("sandbox:lost-answer")
    await gateway.dispatch()
    database = open_database(database_url)

    async def resubmit(tx: AsyncConnection) -> asyncio.Future[httpx.Response]:
        at, unknown = gateway.clock.now(), frozenset({JobState.SUBMIT_UNKNOWN})
        again = ManualChange(sources=unknown, state=JobState.PENDING)
        move = await OperatorRepository(tx).move(job["id"], again, at=at)
        assert move is not None
        await record_moves(tx, [move], at=at)
        failing = asyncio.ensure_future(gateway.admin.post(f"/v1/admin/jobs/{job['id']}/fail"))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.shield(failing)
        return failing

    try:
        assert (await (await database.transact(resubmit))).status_code == 200
    finally:
        await database.close()
    (act, *_) = (await gateway.admin.get("/v1/admin/audit")).json()["data"]
    assert (act["action"], act["before"]["state"]) == ("job.fail", "pending")


async def test_two_jobs_that_adopt_one_request_at_once_do_not_both_get_it(
    gateway: Gateway, database_url: str
) -> None:
    jobs = [await gateway.submit("sandbox:lost-answer") for _ in range(2)]
    await gateway.dispatch()
    (sent,) = await gateway.sandbox.submits(jobs[0])
    database = open_database(database_url)

    async def adopt_both(tx: AsyncConnection) -> asyncio.Future[list[httpx.Response]]:
        if tx.dialect.name == "postgresql":  # neither gets beyond its first write
            await tx.exec_driver_sql("LOCK TABLE job_events IN SHARE MODE")
        asked = {"request_id": sent["request_id"]}
        paths = [f"/v1/admin/jobs/{job['id']}/adopt" for job in jobs]
        adopting = asyncio.gather(*(gateway.admin.post(path, json=asked) for path in paths))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.shield(adopting)
        return adopting

    try:
        answers = await (await database.transact(adopt_both))
    finally:
        await database.close()
    assert sorted(answer.status_code for answer in answers) == [200, 409]
