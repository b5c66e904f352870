"""One loop for all workers: claim what there is room for, handle each piece by itself, repeat."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.db.failures import Failures

logger = structlog.get_logger(__name__)

Piece = TypeVar("Piece")


class LoopConfig(BaseModel):
    """A loop handles `slots` pieces at a time, and when it stops gives them `grace` to finish.

    It claims once `least` slots are free, or after `idle` for fewer, since pieces that hang must
    not keep the remaining slots idle. After a claim that found less than there was room for, the
    next one comes after `pause`, or when the doorbell rings, but never before `rest` is over: so
    one claim serves many small pieces, and not every ring causes a claim while nothing may start.
    """

    model_config = ConfigDict(frozen=True)

    slots: int
    least: int = 1
    pause: timedelta = timedelta()
    rest: timedelta = timedelta()
    idle: timedelta
    grace: timedelta


class WorkLoop(Generic[Piece]):
    """`claim` returns at most as many pieces as asked for; `handle` does one of them completely.

    A piece that shutdown cancels may still write what it knows. `looked_at` is when the loop last
    got an answer from `claim`, or was too busy to ask, on the monotonic clock.
    """

    def __init__(
        self,
        name: str,
        *,
        claim: Callable[[int], Awaitable[Sequence[Piece]]],
        handle: Callable[[Piece], Awaitable[None]],
        config: LoopConfig,
        doorbell: Doorbell,
        clock: Clock,
    ) -> None:
        self._name = name
        self.failures = Failures(name)
        self._claim = claim
        self._handle = handle
        self._config = config
        self._rested_at = 0.0
        self._short_of = 0  # how many free slots it is waiting for, if any
        self._doorbell = doorbell
        self._clock = clock
        self._busy: set[asyncio.Task[None]] = set()
        self.looked_at = self._asked_at = clock.monotonic()

    async def run_once(self) -> int:
        """Claim once, handle all of it, and return how many pieces there were."""
        pieces = await self._claim(self._config.slots)
        self.looked_at = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for piece in pieces:
                group.create_task(self._handle_logged(piece))
        return len(pieces)

    async def run(self, stop: asyncio.Event) -> None:
        """Repeat until `stop`, then let what is under way finish within the grace time."""
        idle, pause = self._config.idle, self._config.pause
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                room, enough = self._config.slots - len(self._busy), self._enough()
                self._short_of = enough if room < enough else 0
                if self._short_of:
                    started = 0
                    self.looked_at = self._clock.monotonic()  # busy is healthy, too
                else:
                    started = await self._start(group, room)
                    self._asked_at = self._clock.monotonic()
                    rest_s = self._config.rest.total_seconds()
                    self._rested_at = _now() + (rest_s if started < room else 0)
                if not started:
                    await self._doorbell.wait(at_most=idle)
                elif started < room and pause:
                    await self._doorbell.wait(at_most=pause)
                if (left_s := self._rested_at - _now()) > 0:
                    await asyncio.sleep(left_s)  # noqa: TID251 - see _now
            if self._busy:
                await self._let_finish()

    def _enough(self) -> int:
        waited_s = self._clock.monotonic() - self._asked_at
        return self._config.least if waited_s < self._config.idle.total_seconds() else 1

    async def _start(self, group: asyncio.TaskGroup, room: int) -> int:
        pieces: Sequence[Piece] = ()
        with self.failures.logged():
            pieces = await self._claim(room)
            self.looked_at = self._clock.monotonic()
        for piece in pieces:
            task = group.create_task(self._handle_logged(piece))
            self._busy.add(task)
            task.add_done_callback(self._leave)
        return len(pieces)

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        if 0 < self._short_of <= self._config.slots - len(self._busy):
            # Work that waits in the database need not wait for the next idle round, too.
            self._doorbell.ring()

    async def _handle_logged(self, piece: Piece) -> None:
        try:
            await self._handle(piece)
        except DatabaseUnavailableError:
            # Not a bug, and the lease will run out: one line, without a traceback.
            logger.warning("worker.piece_waits_for_database", worker=self._name)
        except Exception:
            logger.exception("worker.piece_failed", worker=self._name)

    async def _let_finish(self) -> None:
        # The event loop's time: a process that must end cannot wait for a ManualClock to be moved.
        _, late = await asyncio.wait(self._busy, timeout=self._config.grace.total_seconds())
        for task in late:
            task.cancel()


def _now() -> float:
    """Return the event loop's time, not a Clock's: a rest only spares the database."""
    return asyncio.get_running_loop().time()
