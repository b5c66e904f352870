"""Keeps connections at hand: taking one from SQLAlchemy's pool costs as much as using it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import Engine, QueuePool
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class KeptConnections:
    """As many as the pool holds, each with one user at a time; the last one used is taken first.

    After a failure a connection goes back to the pool, which rolls back what is open. If it was
    lost, all others go back as well once they are free: the pool knows which of them are lost.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        assert isinstance(engine.pool, QueuePool)
        self._size = engine.pool.size()
        self._turn = asyncio.Semaphore(self._size)
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
                    if taken.in_transaction():  # for SQLAlchemy, to which each use is one
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
        return {"in_use": self._in_use, "size": self._size}

    async def close(self) -> None:
        await self._give_back()
        await self.engine.dispose()

    async def _give_back(self) -> None:
        while self._at_hand:
            await _close(self._at_hand.pop())


class KeptFiles:
    """Connections to a file, which is never lost; their users, threads included, wait elsewhere."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._at_hand: list[Connection] = []

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        try:
            taken = self._at_hand.pop()
        except IndexError:
            taken = self.engine.connect()
        try:
            yield taken
            taken.rollback()  # for SQLAlchemy, to which each use is a transaction
        except BaseException:
            taken.close()
            raise
        self._at_hand.append(taken)

    def use(self) -> Mapping[str, int]:
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return {"in_use": pool.checkedout() - len(self._at_hand), "size": pool.size()}

    def close(self) -> None:
        while self._at_hand:
            self._at_hand.pop().close()
        self.engine.dispose()


async def _close(connection: AsyncConnection) -> None:
    """Close it completely, even if its user is cancelled meanwhile."""
    await asyncio.shield(connection.close())
