"""A made-up day: real services and a real sandbox, with a clock that is moved by hand.

The gateway's own code writes every row, so states, ledger and events agree; only time is fast.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from anyio import to_thread
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection

from app.bootstrap.workers import Workers
from app.core.clock import ManualClock, SystemClock
from app.db.engine import opened_database
from app.demo.people import (
    ACTS,
    GUEST,
    LEFT,
    LOST,
    PEOPLE,
    PLANS,
    PRICES,
    UNCOPIED,
    Act,
    Person,
    Wish,
)
from app.demo.printing import answer_of
from app.main import create_app
from app.settings import Settings
from app.storage import copies

_DAY = timedelta(hours=24)
_SITTINGS = 20
_STEP = timedelta(seconds=3)
_STEPS = 10
_LEFT_FOR = timedelta(minutes=3)
_MOMENT = timedelta(milliseconds=5)
_SCOPES = ("jobs:read", "jobs:write", "files", "webhooks", "tokens")


async def live_through_a_day(
    settings: Settings, *, operator: str, receiver: str, until: datetime
) -> str:
    """Fill a migrated database with the day before `until`; return the guest's key.

    Webhooks go to the `receiver`, which takes them in real time.
    """
    clock = ManualClock(until - _DAY)
    app = create_app(settings, public_url="http://127.0.0.1", clock=clock, background=False)
    async with app.router.lifespan_context(app), AsyncExitStack() as stack:
        workers: Workers = app.state.parts.workers
        await workers.catalogue.sync()
        admin = await stack.enter_async_context(_client(app, operator))
        desks = await _settle_in(app, admin, stack, receiver=receiver)
        day = _Day(
            admin=admin,
            desks=desks,
            workers=workers,
            database_url=settings.database_url,
            clock=clock,
            until=until,
            draw=random.Random(20),  # noqa: S311 - days hide no secrets
        )
        await day.live()
        return desks[GUEST].key


@dataclass(frozen=True, slots=True)
class _Desk:
    """What a person works with: a client, and pictures to start from."""

    person: Person
    key: str
    key_id: str
    http: httpx.AsyncClient
    pictures: Sequence[str]

    async def submit(self, wish: Wish) -> dict[str, Any] | None:
        """Return the job, or None if a limit was in the way."""
        given = dict(wish.input)
        if wish.picture is not None:
            given["first_frame_image_url"] = self.pictures[wish.picture % len(self.pictures)]
        answer = await self.http.post("/v1/jobs", json={"model": wish.model, "input": given})
        return None if answer.status_code == httpx.codes.TOO_MANY_REQUESTS else answer_of(answer)


async def _settle_in(
    app: FastAPI, admin: httpx.AsyncClient, stack: AsyncExitStack, *, receiver: str
) -> Mapping[str, _Desk]:
    answer_of(await admin.put("/v1/admin/prices", json={"prices": PRICES}))
    for plan in PLANS:
        answer_of(await admin.post("/v1/admin/plans", json=plan))
    drawn = await to_thread.run_sync(_draw_pictures)
    desks = {}
    for person in PEOPLE:
        user = {"id": person.id, "name": person.name, "plan": person.plan}
        answer_of(await admin.post("/v1/admin/users", json=user))
        asked = {"user": person.id, "name": person.key, "scopes": _SCOPES}
        key = answer_of(await admin.post("/v1/admin/keys", json=asked))
        http = await stack.enter_async_context(_client(app, key["key"]))
        pictures = [answer_of(await http.post("/v1/files", content=drawn[n]))["id"] for n in drawn]
        url = receiver + person.webhook_path
        answer_of(await http.post("/v1/webhook-endpoints", json={"url": url}))
        desks[person.id] = _Desk(person, key["key"], key["id"], http, pictures)
    return desks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Day:
    admin: httpx.AsyncClient
    desks: Mapping[str, _Desk]
    workers: Workers
    database_url: str
    clock: ManualClock
    until: datetime
    draw: random.Random

    async def live(self) -> None:
        started = self.clock.now()
        for sitting in range(_SITTINGS):
            share = (sitting + 0.1 + 0.6 * self.draw.random()) / _SITTINGS
            await self._sit(started + share * (_DAY - timedelta(minutes=10)), sitting)
        await self._end()
        # Afterwards the gateway runs in real time, and must not see time step back.
        self._skip_to(self.until)

    def _skip_to(self, at: datetime) -> None:
        """Move the clock there, but never back."""
        self.clock.advance(max(timedelta(), at - self.clock.now()))

    async def _sit(self, at: datetime, sitting: int) -> None:
        self._skip_to(at)
        for act in ACTS.get(sitting, ()):
            await self._act(act)
        busy = 2 + round(4 * (1 - abs(sitting - _SITTINGS * 0.6) / _SITTINGS))
        jobs = [await self._ask() for _ in range(self.draw.randint(busy // 2, busy))]
        if sitting % 7 == 4 and jobs[0] is not None:  # noqa: PLR2004 - somebody changes their mind
            await self._cancel(*jobs[0])
        await self._steps(_STEPS)
        if sitting == _SITTINGS // 3:
            await self._lose()
        if sitting == _SITTINGS // 2:
            await self._leave_uncopied()
        await self._finish()
        await self._deliver_webhooks()

    async def _act(self, act: Act) -> None:
        path = act.path.format(key=self.desks[act.key_of].key_id if act.key_of else "")
        answer_of(await self.admin.request(act.method, path, json=act.body))

    async def _lose(self) -> None:
        lost = await self.desks["campaigns"].submit(LOST)
        await self._steps(_STEPS // 2)
        assert lost is not None
        answer_of(await self.admin.post(f"/v1/admin/jobs/{lost['id']}/settle"))

    async def _ask(self) -> tuple[_Desk, dict[str, Any]] | None:
        desks = list(self.desks.values())
        [desk] = self.draw.choices(desks, [each.person.share for each in desks])
        self.clock.advance(timedelta(seconds=self.draw.uniform(0.2, 4)))
        job = await desk.submit(self.draw.choice(desk.person.wishes))
        return None if job is None else (desk, job)

    async def _cancel(self, desk: _Desk, job: Mapping[str, Any]) -> None:
        await self._steps(1)
        # A worker carries it out, and here workers run only when told to.
        asked = asyncio.ensure_future(desk.http.post(f"/v1/jobs/{job['id']}/cancel"))
        while not asked.done():
            await self.workers.poller.loop.run_once()
            self.clock.advance(timedelta(milliseconds=100))
            await SystemClock().sleep(_MOMENT)
        await asked

    async def _steps(self, count: int) -> None:
        for _ in range(count):
            await self.workers.dispatcher.loop.run_once()
            self.clock.advance(_STEP)
            await self.workers.poller.loop.run_once()

    async def _finish(self) -> None:
        """Follow what RunComfy has to its end: nobody would look before the next sitting."""
        running = "/v1/admin/jobs?status=in_queue,in_progress&limit=1"
        while answer_of(await self.admin.get(running))["data"]:
            await self._steps(1)

    async def _leave_uncopied(self) -> None:
        """Leave one output waiting for its copy; drawing and copying a whole day takes a minute."""
        job = await self.desks["campaigns"].submit(UNCOPIED)
        assert job is not None
        await self._steps(_STEPS)

        async def work(tx: AsyncConnection) -> None:
            await copies.enqueue(tx, {job["id"]: 1}, at=self.clock.now())

        async with opened_database(self.database_url) as database:
            await database.transact(work, is_long=True)

    async def _end(self) -> None:
        """Leave what an operator would want to look at."""
        self._skip_to(self.until - _LEFT_FOR)
        for name, wish in LEFT:
            await self.desks[name].submit(wish)
        await self._steps(_STEPS)
        await self._deliver_webhooks()

    async def _deliver_webhooks(self) -> None:
        while await self.workers.deliverer.loop.run_once():
            pass


@asynccontextmanager
async def _client(app: FastAPI, credential: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://127.0.0.1",
        headers={"Authorization": f"Bearer {credential}"},
    ) as client:
        yield client


def _draw_pictures() -> dict[int, bytes]:
    # Imported only now, since it needs the extra.
    from app.sandbox.painting import scene  # noqa: PLC0415

    return {n: scene(turn) for n, turn in enumerate((0, 96, 150))}
