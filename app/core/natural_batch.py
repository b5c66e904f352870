"""Natural batching: the callers that wait while one batch is worked on form the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.core.errors import DatabaseUnavailableError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    answer: asyncio.Future[Answer]


class NaturalBatch(Generic[Item, Answer]):
    """Gives each caller the answer to its own item, while `work` sees many items at once.

    A lone caller waits for nobody. There is no task of its own: whoever gets the turn works for all
    that wait. An item's answer may be an exception, raised to that caller alone; an exception from
    `work` itself makes each item be tried alone, so that no caller fails for its neighbour's sake.
    Only a database that is away fails them all at once: alone, each would wait for it in its turn.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        most: int = 500,
    ) -> None:
        self._work = work
        self._most = most
        self._line: list[_Waiting[Item, Answer]] = []
        self._turn = asyncio.Lock()

    async def __call__(self, item: Item) -> Answer:
        mine = _Waiting[Item, Answer](item, asyncio.get_running_loop().create_future())
        self._line.append(mine)
        try:
            async with self._turn:
                while not mine.answer.done():
                    await _to_the_end(self._take_turn())
        except BaseException:
            mine.answer.cancel()  # who has left the line is worked for no more
            raise
        return mine.answer.result()

    async def _take_turn(self) -> None:
        batch, self._line = self._line[: self._most], self._line[self._most :]
        batch = [waiting for waiting in batch if not waiting.answer.cancelled()]
        if not batch:
            return
        try:
            for waiting, answer in zip(batch, await self._answers(batch), strict=True):
                if waiting.answer.cancelled():
                    continue
                if isinstance(answer, Exception):
                    waiting.answer.set_exception(answer)
                else:
                    waiting.answer.set_result(answer)
        finally:
            # A turn that was broken off leaves nobody waiting for an answer that cannot come.
            self._line[:0] = [waiting for waiting in batch if not waiting.answer.done()]

    async def _answers(
        self, batch: Sequence[_Waiting[Item, Answer]]
    ) -> Sequence[Answer | Exception]:
        try:
            return await self._work([waiting.item for waiting in batch])
        except DatabaseUnavailableError as exc:
            return [_again(exc) for _ in batch]
        except Exception as exc:  # noqa: BLE001 - it becomes the answer of who asked
            if len(batch) == 1:
                return [exc]
        return [(await self._answers([waiting]))[0] for waiting in batch]


def _again(exc: DatabaseUnavailableError) -> DatabaseUnavailableError:
    """Give each caller an exception of its own: raising one adds to its traceback."""
    copy = DatabaseUnavailableError()
    copy.__cause__ = exc
    return copy


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Finish `work` however often the caller is cancelled: others wait for its answers."""
    turn = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not turn.done():
        try:
            await asyncio.shield(turn)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
