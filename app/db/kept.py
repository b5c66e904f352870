"""Connections kept at hand: taking one from SQLAlchemy's pool costs as much as using it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class KeptConnections:
    """As many as its pool holds, each with one user at a time; the last used is warmest.

    After a failure a connection goes back to the pool, which rolls back what is open. If it was
    lost, all others go back too once they are free: the pool knows which of them are lost.
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
                    if taken.in_transaction():  # to SQLAlchemy, which treats each use as one
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
    """Close it completely, even if the user is cancelled meanwhile."""
    await asyncio.shield(connection.close())
