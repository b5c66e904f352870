"""One turn at a time for each caller, so that one who asks for much at once keeps out no others."""

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """A turn is forgotten once nobody has it or waits for it."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, whose: str) -> asyncio.Semaphore:
        turn = self._turns.get(whose)
        if turn is None:
            turn = self._turns[whose] = asyncio.Semaphore(1)
        return turn
