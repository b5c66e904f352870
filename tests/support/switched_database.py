"""The real database, with switches: away, slow, or lost between a commit and its answer."""

import asyncio

from sqlalchemy import event

from app.core.errors import DatabaseUnavailableError
from app.db.engine import Database, open_database
from app.db.work import Done, Work


class SwitchedDatabase(Database):
    """`statements` is what was sent; the next `lost_commits` commits succeed but lose their answer.

    While it is not `open`, transactions wait. `refusals` says for each next one if it is refused.
    """

    def __init__(self, url: str) -> None:
        super().__init__(open_database(url)._connections)  # noqa: SLF001 - it takes their place
        self.away = False
        self.refusals: list[bool] = []
        self.lost_commits = 0
        self.refused = 0
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self.statements: list[str] = []
        for engine in self.watch():
            event.listen(engine, "before_cursor_execute", self._count)

    async def transact(self, work: Work[Done], *, is_long: bool = False) -> Done:
        self._check(refused=bool(self.refusals) and self.refusals.pop(0))
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        done = await super().transact(work, is_long=is_long)
        if self.lost_commits:
            self.lost_commits -= 1
            raise DatabaseUnavailableError(is_unsure=True)
        return done

    async def read(self, work: Work[Done]) -> Done:
        self._check()
        return await super().read(work)

    async def search(
        self, work: Work[Done], *, whose: str | None = None, is_long: bool = False
    ) -> Done:
        self._check()
        return await super().search(work, whose=whose, is_long=is_long)

    async def look_up(self, work: Work[Done]) -> Done:
        self._check()
        return await super().look_up(work)

    def _check(self, *, refused: bool = False) -> None:
        if self.away or refused:
            self.refused += 1
            raise DatabaseUnavailableError

    def _count(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self.statements.append(statement)
