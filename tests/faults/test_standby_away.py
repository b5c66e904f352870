"""A synchronous standby that is gone: what only this server has may be undone by a fail-over."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Literal

from app.core.clock import ManualClock, SystemClock
from app.db.migrate import upgrade
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.postgres import restartable_postgres

PATIENCE_S = 60
LOOK = timedelta(milliseconds=20)


class Primary:
    """Waits at each commit for a standby that never comes, from `lose_standby` on."""

    def __init__(self, server: psycopg.AsyncConnection) -> None:
        self._server = server

    async def lose_standby(self) -> None:
        await self._wait_for("nobody")

    async def go_on_alone(self) -> None:
        await self._wait_for("")

    async def until_a_commit_waits(self, task: asyncio.Future[httpx.Response]) -> None:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        async with asyncio.timeout(PATIENCE_S):
            while not await self._ask(waiting):
                assert not task.done(), task.result().text
                await SystemClock().sleep(LOOK)

    async def _wait_for(self, standby: str) -> None:
        names = SQL("ALTER SYSTEM SET synchronous_standby_names = {}")
        # Whoever sets it must not wait for a standby.
        await self._server.execute("SET synchronous_commit = local")
        await self._server.execute(names.format(Literal(standby)))
        await self._server.execute("SELECT pg_reload_conf()")
        shown = "SELECT current_setting('synchronous_standby_names')"
        async with asyncio.timeout(PATIENCE_S):
            while await self._ask(shown) != standby:
                await SystemClock().sleep(LOOK)

    async def _ask(self, question: str) -> object:
        row = await (await self._server.execute(question)).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture
async def primary(clock: ManualClock, sandbox: Sandbox) -> AsyncIterator[tuple[Primary, Gateway]]:
    with restartable_postgres(synchronous_commit="on") as server:
        await asyncio.to_thread(upgrade, server.url)
        async with (
            await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection,
            running(server.url, sandbox=sandbox, clock=clock) as gateway,
        ):
            yield Primary(connection), gateway


async def test_a_submit_is_no_replay_before_a_standby_has_its_job(
    primary: tuple[Primary, Gateway],
) -> None:
    """A commit that was told to stop waiting is seen at once, and its caller asks again."""
    server, gateway = primary
    submit = partial(
        gateway.http.post,
        "/v1/jobs",
        json=gateway.body(),
        headers={"Idempotency-Key": "order-4711"},
    )
    first = await submit()
    await server.lose_standby()
    asking = asyncio.ensure_future(submit())
    await server.until_a_commit_waits(asking)
    await server.go_on_alone()
    answer = await asking
    assert answer.status_code == 200
    assert answer.json()["id"] == first.json()["id"]


async def test_nor_is_a_job_said_to_be_cancelled_already(primary: tuple[Primary, Gateway]) -> None:
    """With the server the cancel would be lost, and the job sent and paid for."""
    server, gateway = primary
    cancel = partial(gateway.http.post, f"/v1/jobs/{(await gateway.submit())['id']}/cancel")
    assert (await cancel()).json()["outcome"] == "cancelled_locally"
    await server.lose_standby()
    asking = asyncio.ensure_future(cancel())
    await server.until_a_commit_waits(asking)
    await server.go_on_alone()
    assert (await asking).json()["outcome"] == "cancelled_locally"
