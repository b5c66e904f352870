"""Natural batching: the callers that arrive while one batch is worked on form the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from structlog.contextvars import clear_contextvars

from app.core.errors import DatabaseUnavailableError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_SHARE, _AT_MOST_S = 1 / 4, 0.02  # of the last batch's time: the wait for its callers to return
_LOOP_TURNS = 8  # turns of the loop until an answer is with its client and the next call is here


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    answer: asyncio.Future[Answer]


class NaturalBatch(Generic[Item, Answer]):
    """Gives each caller the answer to its own item, while `work` sees many items at once.

    A lone caller waits for nobody. With several, the next batch waits for those just answered to
    return, for at most a quarter of the time that the last one took: otherwise small and large
    batches would alternate. The working task lives while somebody waits, so a caller that leaves
    interrupts nothing for the others. An item's answer may be an exception, raised to that caller
    only; if `work` itself raises, each item is tried by itself, so that no caller fails because of
    another. Only a database that is down fails them all at once: one by one, each would wait for
    it in turn.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        most: int = 500,
    ) -> None:
        self._work = work
        self._most = most
        self._queue: list[_Waiting[Item, Answer]] = []
        self._worker: asyncio.Task[None] | None = None
        self._expected = 0
        self._all_are_back = asyncio.Event()

    async def __call__(self, item: Item) -> Answer:
        loop = asyncio.get_running_loop()
        mine: _Waiting[Item, Answer] = _Waiting(item, loop.create_future())
        self._queue.append(mine)
        if len(self._queue) >= self._expected:
            self._all_are_back.set()
        if self._worker is None:
            self._worker = loop.create_task(self._drain())
        return await mine.answer  # a caller that leaves cancels it, and its item is skipped

    async def _drain(self) -> None:
        clear_contextvars()  # they are the first caller's, and this logs for all
        batch: list[_Waiting[Item, Answer]] = []
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                batch, self._queue = self._queue[: self._most], self._queue[self._most :]
                batch = [waiting for waiting in batch if not waiting.answer.cancelled()]
                began = loop.time()
                if batch:
                    await self._answer_all(batch)
                if (callers := len(batch) + len(self._queue)) > 1:
                    share_s = _SHARE * (loop.time() - began)
                    await self._expect(callers, within_s=min(share_s, _AT_MOST_S))
        finally:
            # If interrupted, leave nobody waiting for an answer that cannot come.
            for waiting in (*batch, *self._queue):
                waiting.answer.cancel()
            self._queue.clear()
            self._worker = None

    async def _expect(self, callers: int, *, within_s: float) -> None:
        """Wait for so many callers to queue up: some turns of the loop, then at most `within_s`."""
        self._expected = callers
        self._all_are_back.clear()
        for _ in range(_LOOP_TURNS):
            await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
            if self._all_are_back.is_set():
                return
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._all_are_back.wait()

    async def _answer_all(self, batch: Sequence[_Waiting[Item, Answer]]) -> None:
        answers = await self._answers(batch)
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.cancelled():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)

    async def _answers(
        self, batch: Sequence[_Waiting[Item, Answer]]
    ) -> Sequence[Answer | Exception]:
        try:
            answers = await self._work([waiting.item for waiting in batch])
            return [answer for _, answer in zip(batch, answers, strict=True)]
        except DatabaseUnavailableError as exc:
            return [_again(exc) for _ in batch]
        except Exception as exc:  # noqa: BLE001 - it becomes the answer to its caller
            if len(batch) == 1:
                return [exc]
        return [(await self._answers([waiting]))[0] for waiting in batch]


def _again(exc: DatabaseUnavailableError) -> DatabaseUnavailableError:
    """Give each caller an exception of its own: raising one adds to its traceback."""
    copy = DatabaseUnavailableError(is_unsure=exc.is_unsure, reason=exc.reason)
    copy.__cause__ = exc
    return copy
