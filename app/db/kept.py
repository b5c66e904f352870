"""Connections that stay at hand: to take one from SQLAlchemy's pool costs as much as to use it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class KeptConnections:
    """As many as its pool holds, each with one user at a time; the one used last is warm.

    Who fails gives a connection back to the pool, which rolls back what it finds open. If it is
    lost, all others go back too, once who has them is done: the pool knows which of them are lost.
    """

    def __init__(self, engine: AsyncEngine, *, most: int) -> None:
        self.engine = engine
        self._most = most
        self._turn = asyncio.Semaphore(most)
        self._at_hand: list[AsyncConnection] = []
        self._in_use = 0
        self._losses = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        async with self._turn:
            self._in_use += 1
            losses = self._losses
            try:
                taken = self._at_hand.pop() if self._at_hand else await self.engine.connect()
                try:
                    yield taken
                    if taken.in_transaction():  # for SQLAlchemy, which takes each use for one
                        await taken.rollback()
                except BaseException:
                    is_lost = taken.invalidated
                    self._losses += is_lost
                    await _close(taken)
                    if is_lost:
                        await self._give_back()
                    raise
                if losses == self._losses:
                    self._at_hand.append(taken)
                else:
                    await _close(taken)
            finally:
                self._in_use -= 1

    def use(self) -> Mapping[str, int]:
        return {"in_use": self._in_use, "size": self._most}

    async def close(self) -> None:
        await self._give_back()
        await self.engine.dispose()

    async def _give_back(self) -> None:
        while self._at_hand:
            await _close(self._at_hand.pop())


async def _close(connection: AsyncConnection) -> None:
    """Close it to the end, even for a user who is cancelled meanwhile."""
    await asyncio.shield(connection.close())
