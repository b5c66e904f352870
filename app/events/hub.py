"""Wakes those who wait in this process for news of jobs, wherever the news was written.

There is one reader of the log, however many wait: NOTIFY on Postgres and a commit on SQLite only
ring its bell, and once a second it looks anyway. So a lost notice costs a second, and nobody is
woken for others' news or for what they have already read.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Generic, TypeVar

import structlog

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError, ProblemError
from app.core.owners import owner_of
from app.db.engine import Database
from app.db.failures import Failures
from app.db.notices import Notices
from app.events.cursor import Cursor
from app.events.tail import Entry, Page, Whose, end_of_log, read_on
from app.events.watch import Ending, Watch

logger = structlog.get_logger(__name__)

_LOOK_EVERY = timedelta(seconds=1)
_CHECK_EVERY = timedelta(seconds=0.5)  # so that a revocation is noticed within a second
_BREATH_S = 0.01  # between two looks: the second also finds what was rung for in between
_BEAT_S = 15.0
_LIFE_S = 3600.0
_PAGE = 1000

Holder = TypeVar("Holder")
"""What a waiter's access depends on; only the function that checks access looks inside."""


class TooManyStreamsError(ProblemError):
    code = "too_many_streams"
    title = "Too many open streams and waits"
    status = 429

    def __init__(self, most: int) -> None:
        super().__init__(
            f"You have {most} streams and waits open, which is the most"
            " (GATEWAY_MAX_STREAMS_PER_USER); close one, or follow all jobs by GET /v1/events.",
            headers={"Retry-After": "1"},
            limit=most,
        )


class Hub(Generic[Holder]):
    """`lost` returns those holders that have lost their access."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        closing: asyncio.Event,
        notices: Notices | None,
        lost: Callable[[Collection[Holder]], Awaitable[Collection[Holder]]],
        most_per_user: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._closing = closing
        self._notices = notices
        self._lost = lost
        self._most_per_user = most_per_user
        self._places: Counter[str] = Counter()
        self._watches: dict[str, set[Watch]] = {}
        self._holders: dict[Watch, Holder] = {}
        self._cursor: Cursor | None = None
        self._bell = Doorbell(clock=clock)
        self._failures = Failures("hub")
        database.on_news = self._bell.ring

    @contextmanager
    def place(self, user_id: str) -> Iterator[None]:
        """Occupy one of the user's places in this process, or raise TooManyStreamsError."""
        if self._places[user_id] >= self._most_per_user:
            raise TooManyStreamsError(self._most_per_user)
        self._places[user_id] += 1
        try:
            yield
        finally:
            self._places[user_id] -= 1
            if not self._places[user_id]:
                del self._places[user_id]

    @contextmanager
    def watch(self, whom: str | Whose, *, holder: Holder) -> Iterator[Watch]:
        """Watch for news of a job or a user; open it before the first look, to miss nothing."""
        watch = Watch(opened=self._clock.monotonic())
        key = whom if isinstance(whom, str) else _key(whom)
        is_first = not self._watches
        self._watches.setdefault(key, set()).add(watch)
        self._holders[watch] = holder
        if self._closing.is_set():
            watch.end(Ending.CLOSING)
        if is_first:
            self._bell.ring()
        try:
            yield watch
        finally:
            del self._holders[watch]
            self._watches[key].discard(watch)
            if not self._watches[key]:
                del self._watches[key]

    async def run(self) -> None:
        """Run until the process closes; then end all waits."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for work in (self._follow, self._beat, self._check)]
            if self._notices is not None:
                tasks.append(group.create_task(self._notices.run(self._bell.ring)))
            await self._closing.wait()
            for watch in self._all():
                watch.end(Ending.CLOSING)
            for task in tasks:
                task.cancel()

    async def _follow(self) -> None:
        while True:
            await self._bell.wait(at_most=_LOOK_EVERY)
            with self._failures.logged():
                await self._look()
            # The event loop's time: a steady flow of news must not make this a busy loop.
            await _at_most(self._closing, _BREATH_S)

    async def _look(self) -> None:
        """Wake those who wait for what is new; while nobody waits, the log is not read."""
        cursor = self._cursor if self._watches else None
        if cursor is None:
            self._cursor = await self._database.look_up(end_of_log) if self._watches else None
            for watch in self._all():
                watch.tell()
            return

        page: Page = await self._database.look_up(
            lambda connection: read_on(connection, cursor, limit=_PAGE)
        )
        for entry in page.entries:
            for key in _keys(entry):
                for watch in self._watches.get(key, ()):
                    if not watch.knows(entry):
                        watch.tell()
        self._cursor = page.end
        if page.is_full:
            self._bell.ring()

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_EVERY)
            now = self._clock.monotonic()
            for watch in self._all():
                if now - watch.opened >= _LIFE_S:
                    watch.end(Ending.AGE)
                watch.beat(quiet_since=now - _BEAT_S)

    async def _check(self) -> None:
        while True:
            await self._clock.sleep(_CHECK_EVERY)
            try:
                lost = await self._lost(set(self._holders.values())) if self._holders else ()
            except DatabaseUnavailableError:
                continue  # already logged where the log is followed
            except Exception:
                logger.exception("hub.check_failed")
                continue
            for watch, holder in self._holders.items() if lost else ():
                if holder in lost:
                    watch.end(Ending.ACCESS)

    def _all(self) -> list[Watch]:
        return list(self._holders)


def _key(whose: Whose) -> str:
    return f"{'owner' if whose.with_theirs else 'user'}:{whose.user_id}"


def _keys(entry: Entry) -> tuple[str, str, str]:
    return entry.job_id, f"user:{entry.user_id}", f"owner:{owner_of(entry.user_id)}"


async def _at_most(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
