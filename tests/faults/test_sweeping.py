"""Objects that a store does not delete hold up nothing, and are tried again."""

import re
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.db.engine import Database, opened_database
from app.storage.discards import Sweeper, discard
from app.storage.errors import StorageUnavailableError
from app.storage.objects import ObjectStorage
from app.storage.opening import open_storage
from app.storage.store import Storage, new_key
from tests.support.rows import look
from tests.support.storages import point_at
from tests.support.wire_server import Line, answer, wire_server

HOUR = timedelta(hours=1)


class Folder:
    """Refuses to delete, as files, the folders in their place."""

    def __init__(self, path: Path) -> None:
        self.storage = open_storage(f"file://{path}")
        self._path = path

    def place(self, *keys: str) -> None:
        for key in keys:
            (self._path / key).touch()

    def has(self, key: str) -> bool:
        return (self._path / key).exists()

    def refuse(self, *keys: str) -> None:
        for key in keys:
            (self._path / key).mkdir()

    def give_in(self) -> None:
        for path in self._path.glob("*/*"):
            path.rmdir()


class Bucket:
    """An S3 that denies deleting some objects, as a retention or a missing permission does."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._kept: set[str] = set()
        self._all: set[str] = set()

    def place(self, *keys: str) -> None:
        self._all.update(keys)

    def has(self, key: str) -> bool:
        return key in self._all

    def refuse(self, *keys: str) -> None:
        self._kept.update(keys)

    def give_in(self) -> None:
        self._kept.clear()

    async def script(self, line: Line) -> None:
        while True:
            asked = await line.request()
            assert asked.target.endswith("?delete")
            (path,) = re.findall("<Key>(.*?)</Key>", asked.body.decode())
            key = path.removeprefix("some/where/")
            if key in self._kept:
                result = f"<Error><Key>{path}</Key><Code>AccessDenied</Code><Message/></Error>"
            else:
                self._all.discard(key)
                result = f"<Deleted><Key>{path}</Key></Deleted>"
            await line.send(answer(raw=f"<DeleteResult>{result}</DeleteResult>".encode()))


class Away(ObjectStorage):
    """Does not answer, for as long as anybody waits."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.asked: list[str] = []

    async def delete(self, key: str) -> None:
        self.asked.append(key)
        self._clock.advance(timedelta(seconds=5))
        raise StorageUnavailableError


Store = Folder | Bucket


@pytest.fixture(params=["folder", "bucket"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    if request.param == "folder":
        yield Folder(tmp_path / "kept")
        return
    async with wire_server() as server:
        bucket = Bucket(open_storage(point_at(server.url, monkeypatch)))
        server.scripts.append(bucket.script)
        yield bucket


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened_database(database_url) as opened:
        yield opened


async def discarded(database: Database, keys: Sequence[str], clock: ManualClock) -> None:
    """Discard these, each a second after the one before."""
    start = clock.now() - timedelta(seconds=len(keys))

    async def work(tx: AsyncConnection) -> None:
        for n, key in enumerate(keys):
            await discard(tx, [key], due_at=start + timedelta(seconds=n))

    await database.transact(work)


def left(database_url: str) -> set[str]:
    return {key for (key,) in look(database_url, "SELECT storage_key FROM discards")}


async def test_what_a_store_keeps_holds_up_nothing_and_is_tried_again_in_an_hour(
    store: Store, database: Database, database_url: str, clock: ManualClock
) -> None:
    kept, others = [new_key("outputs") for _ in range(101)], [new_key("files") for _ in range(3)]
    store.refuse(*kept)
    store.place(*others)
    await discarded(database, [*kept[:-1], *others, kept[-1]], clock)
    sweeper = Sweeper(database=database, storage=store.storage, clock=clock)
    with capture_logs() as logs:
        assert [await sweeper.prune() for _ in range(3)] == [100, 4, 0]
    assert left(database_url) == set(kept)
    assert not any(map(store.has, others))
    told = [(line["event"], line["action"], line["objects"]) for line in logs]
    assert told == [("storage.failed", "delete", 100), ("storage.failed", "delete", 1)]

    clock.advance(HOUR)
    assert [await sweeper.prune() for _ in range(3)] == [100, 1, 0]
    store.give_in()
    clock.advance(HOUR)
    assert [await sweeper.prune() for _ in range(3)] == [100, 1, 0]
    assert left(database_url) == set()


async def test_a_store_that_is_away_is_not_asked_for_everything_at_once(
    database: Database, database_url: str, clock: ManualClock
) -> None:
    """Nor is there more to do at once: otherwise it would be asked without a pause."""
    away, keys = Away(clock), [new_key("outputs") for _ in range(3)]
    await discarded(database, keys, clock)
    sweeper = Sweeper(database=database, storage=away, clock=clock)
    assert [await sweeper.prune() for _ in range(2)] == [0, 0]
    assert away.asked == keys[:2], "the next one at the next time"
    assert left(database_url) == set(keys)


async def test_an_output_that_a_store_keeps_lets_the_rest_of_an_erased_job_go(
    store: Store, database: Database, clock: ManualClock
) -> None:
    kept, other = new_key("outputs"), new_key("files")
    store.refuse(kept)
    store.place(other)
    await Sweeper(database=database, storage=store.storage, clock=clock).delete([kept, other])
    assert not store.has(other)
