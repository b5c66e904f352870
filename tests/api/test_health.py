"""What load balancers and operators are told: alive, ready, or why not."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from app.core.errors import DatabaseUnavailableError
from app.db.engine import open_database
from app.db.models import HeartbeatRow, SchemaReleaseRow
from app.db.schema import newest_revision
from tests.support.answers import problem
from tests.support.asgi import send_raw
from tests.support.gateway import Gateway

pytestmark = pytest.mark.either_database

READY = {
    "status": "ok",
    "database": "ok",
    "migrations": "ok",
    "workers": "ok",
    "upstream": {"submits": "open", "polls": "open"},
}


async def test_health_needs_no_key(gateway: Gateway) -> None:
    for path, body in (("/healthz", {"status": "ok"}), ("/readyz", READY)):
        answer = await send_raw(gateway.app, "GET", path)
        assert (answer.status_code, answer.json()) == (200, body)


async def test_it_is_ready_while_some_process_looks_for_work(gateway: Gateway) -> None:
    gateway.wait(29)
    assert (await gateway.http.get("/readyz")).status_code == 200
    gateway.wait(1)
    answer = await gateway.http.get("/readyz")
    assert problem(answer) == {
        "status": 503,
        "code": "not_ready",
        "detail": "No process has looked for work in 30 s; is a `gateway worker` or another"
        " `gateway serve` running?",
        "failed": "workers",
        "upstream": {"submits": "open", "polls": "open"},
    }
    assert answer.headers["Retry-After"] == "2"

    assert not await gateway.workers.heartbeat.run_once()  # its loops have not looked either
    await gateway.dispatch()
    with capture_logs() as logs:
        assert not await gateway.workers.heartbeat.run_once()  # one of them hangs
    assert [(line["log_level"], line["event"]) for line in logs] == [("error", "worker.hangs")]
    await gateway.poll()
    assert await gateway.workers.heartbeat.run_once()
    assert (await gateway.http.get("/readyz")).json() == READY


async def test_where_nobody_ever_looked_for_work_it_is_not_ready(
    gateway: Gateway, database_url: str
) -> None:
    database = open_database(database_url)
    await database.transact(lambda tx: tx.execute(delete(HeartbeatRow)))
    await database.close()
    refused = problem(await gateway.http.get("/readyz"))
    assert (refused["status"], refused["failed"]) == (503, "workers")


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow."""
    size = resource.RLIMIT_FSIZE
    before = resource.getrlimit(size)
    resource.setrlimit(size, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(size, before)


@pytest.mark.sqlite_alone  # whose disk is this process's; Postgres refuses a beat likewise
async def test_a_database_that_takes_no_writes_is_not_ready(gateway: Gateway) -> None:
    gateway.wait(5)  # SQLite does not write what is there already
    with full_disk(), pytest.raises(DatabaseUnavailableError):
        await gateway.workers.heartbeat.run_once()
    assert problem(await gateway.http.get("/readyz")) == {
        "status": 503,
        "code": "not_ready",
        "detail": "The database answers, but took no write lately; is its disk full, is it a"
        " standby, or does it wait for one?",
        "failed": "database",
        "upstream": {"submits": "open", "polls": "open"},
    }
    assert await gateway.workers.heartbeat.run_once()
    assert (await gateway.http.get("/readyz")).json() == READY


@pytest.mark.sqlite_alone  # as above
async def test_a_database_that_takes_no_writes_is_still_read(gateway: Gateway) -> None:
    job = await gateway.submit()
    gateway.wait(60)  # since the key's last use was noted
    with full_disk():
        answer = await gateway.http.get(f"/v1/jobs/{job['id']}")
        refused = await gateway.http.post("/v1/jobs", json=gateway.body())
    assert (answer.status_code, answer.json()["id"]) == (200, job["id"])
    assert problem(refused)["code"] == "database_unavailable"


async def test_hearts_that_stopped_are_forgotten(gateway: Gateway, database_url: str) -> None:
    database = open_database(database_url)
    health = gateway.app.state.services.health
    await health.beat("worker_old")
    gateway.wait(3600)
    await health.beat("worker_beside")
    gateway.wait(1)
    await health.beat("worker_new")

    async def workers(connection: AsyncConnection) -> Sequence[str]:
        return (await connection.execute(select(HeartbeatRow.worker))).scalars().all()

    assert sorted(await database.read(workers)) == ["worker_beside", "worker_new"]
    await database.close()


async def test_upstream_trouble_is_told_and_does_not_unready(gateway: Gateway) -> None:
    assert (await gateway.admin.put("/v1/admin/dispatch", json={"paused": True})).is_success
    told = (await gateway.http.get("/readyz")).json()
    assert told == READY | {"upstream": {"submits": "operator", "polls": "open"}}
    await gateway.admin.put("/v1/admin/dispatch", json={"paused": False})

    await gateway.submit("sandbox:submit-401")
    await gateway.dispatch()
    answer = await gateway.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["upstream"] == {"submits": "token_refused", "polls": "open"}


async def test_a_schema_of_another_release_is_not_ready(
    gateway: Gateway, database_url: str
) -> None:
    database = open_database(database_url)

    async def migrate(tx: AsyncConnection) -> None:
        await tx.execute(text("UPDATE alembic_version SET version_num = 'of_another'"))
        await tx.execute(delete(SchemaReleaseRow))

    async def expand(tx: AsyncConnection) -> None:
        await tx.execute(insert(SchemaReleaseRow).values(revision=newest_revision()))

    await database.transact(migrate)
    refused = problem(await gateway.http.get("/readyz"))
    assert (refused["status"], refused["failed"]) == (503, "migrations")
    await database.transact(expand)
    assert (await gateway.http.get("/readyz")).status_code == 200
    await database.close()


async def test_a_process_told_to_stop_is_drained(gateway: Gateway) -> None:
    gateway.app.state.services.closing.set()
    refused = problem(await gateway.http.get("/readyz"))
    assert (refused["status"], refused["code"]) == (503, "not_ready")
    assert (await gateway.http.get("/healthz")).status_code == 200
