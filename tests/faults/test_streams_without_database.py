"""A database that goes away while callers listen: nothing is lost of what they wait for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from app.core.clock import SystemClock
from app.main import create_app
from tests.support.answers import problem
from tests.support.gateway import ADMIN_TOKEN
from tests.support.served import Served, serving, settings_of
from tests.support.sse import Event, stream
from tests.support.wires import Wire, running_wire

AWAY = timedelta(seconds=2.5)
WITHIN_S = 20
STUCK = "sandbox:stuck-in-queue"


@pytest.fixture
def wire(postgres_database: str) -> Iterator[Wire]:
    folder = make_url(postgres_database).query["host"]
    assert isinstance(folder, str)
    with running_wire(Path(folder) / ".s.PGSQL.5432") as one:
        yield one


@pytest.fixture
async def gateway(postgres_database: str, wire: Wire, tmp_path: Path) -> AsyncIterator[Served]:
    through = make_url(postgres_database).set(host="127.0.0.1", port=wire.port, query={})
    text = through.render_as_string(hide_password=False)
    async with serving(text, tmp_path) as one:
        yield one


def told(seen: list[Event | None], event: str) -> set[str]:
    return {each.data["id"] for each in seen if each and each.event == event}


async def test_streams_and_waits_outlast_the_database(
    gateway: Served, wire: Wire, postgres_database: str
) -> None:
    """What happens meanwhile is done by a replica that has its database still."""
    settings = settings_of(postgres_database, upstream_url="http://127.0.0.1:9")
    app = create_app(settings, public_url="http://127.0.0.1", background=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://127.0.0.1",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        ) as ops,
    ):
        jobs = [(await gateway.submit(STUCK)).json()["id"] for _ in range(3)]
        seen: list[Event | None] = []
        async with (
            stream(gateway.http, f"/v1/jobs/{jobs[0]}/events", after="0") as of_one,
            stream(gateway.http, "/v1/events") as of_all,
        ):
            wait = asyncio.ensure_future(gateway.submit(STUCK, Prefer="wait=30"))
            async with asyncio.timeout(WITHIN_S):
                while len(told(seen, "job.in_queue") | set(jobs)) < 4:
                    seen.append(await of_all.next())
            (waited_for,) = told(seen, "job.in_queue") - set(jobs)

            with capture_logs() as logs:
                wire.cut()
                refused = problem(await gateway.http.get(f"/v1/jobs/{jobs[0]}"))
                assert (refused["status"], refused["code"]) == (503, "database_unavailable")
                for job in (*jobs, waited_for):
                    assert (await ops.post(f"/v1/admin/jobs/{job}/fail")).is_success
                await SystemClock().sleep(AWAY)
                assert not wait.done()
                wire.mend()
                assert (await of_one.rest())[-1].event == "job.failed"
                answer = await wait
                assert (answer.status_code, answer.json()["status"]) == (200, "failed")
                async with asyncio.timeout(WITHIN_S):
                    while len(told(seen, "job.failed")) < 4:
                        seen.append(await of_all.next())
            assert {of_one.retry, of_all.retry} == {None}
            moments = [event.id for event in seen if event]
            assert len(moments) == len(set(moments))
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []
    losses = [line["who"] for line in logs if line["event"] == "database.away"]
    assert len(losses) == len(set(losses)) > 0
