"""A storage that is away, or goes on when it was given up: nothing stays in it for ever."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.engine import open_database, opened_database
from app.storage.discards import Sweeper, discard
from app.storage.errors import FileTooLargeError, StorageUnavailableError
from app.storage.objects import ObjectStorage
from app.storage.opening import open_folder
from app.storage.rows import RowStorage
from app.storage.store import Stored, new_key
from app.storage.uploads import Uploads, UploadsConfig
from tests.support.files import PNG
from tests.support.gateway import Gateway
from tests.support.storages import files_below

pytestmark = pytest.mark.either_database


class Reluctant(ObjectStorage):
    """A folder that takes and gives, but deletes nothing just now."""

    async def delete(self, key: str) -> None:
        raise StorageUnavailableError


async def test_what_cannot_be_taken_back_now_hides_no_refusal_and_goes_later(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    clock = gateway.clock
    sound = open_folder(tmp_path / "kept")
    reluctant = Reluctant(sound._opened, folder=sound._folder)  # noqa: SLF001 - it takes its place
    database = open_database(database_url)
    uploads = Uploads(
        database=database,
        storage=reluctant,
        sweeper=Sweeper(database=database, storage=reluctant, clock=clock),
        config=UploadsConfig(largest_image=1000),
        clock=clock,
    )

    async def body() -> AsyncIterator[bytes]:
        yield PNG

    try:
        with pytest.raises(FileTooLargeError):
            await uploads.receive(body(), user_id="alice")
        kept = await uploads.keep(PNG, declared="image/png", user_id="alice", made_for="job_x")
        await uploads.drop([kept.id])
        sweeper = Sweeper(database=database, storage=reluctant, clock=clock)
        assert [await sweeper.prune() for _ in range(2)] == [1, 0], "not again at once"
        assert len(files_below(tmp_path / "kept")) == 1
        gateway.wait(3600)
        await Sweeper(database=database, storage=sound, clock=clock).prune()
        assert files_below(tmp_path / "kept") == []
    finally:
        await database.close()


async def test_nobody_waits_long_for_a_storage_that_is_away(
    gateway: Gateway, database_url: str
) -> None:
    class Away(ObjectStorage):
        async def delete(self, key: str) -> None:
            gateway.wait(3)
            raise StorageUnavailableError

    began = gateway.clock.monotonic()
    async with opened_database(database_url) as database:
        away = Away(dict, folder=None)
        sweeper = Sweeper(database=database, storage=away, clock=gateway.clock)
        await sweeper.delete([new_key("outputs") for _ in range(9)])
    assert gateway.clock.monotonic() - began == 6


async def test_a_process_that_lacks_the_storage_leaves_deleting_to_those_that_have_it(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    """Without GATEWAY_STORAGE_URL a worker would forget what it cannot delete."""
    clock, storage, key = gateway.clock, open_folder(tmp_path / "kept"), new_key("files")

    async def body() -> AsyncIterator[bytes]:
        yield PNG

    async def work(tx: AsyncConnection) -> None:
        await discard(tx, [key], due_at=clock.now())

    async with opened_database(database_url) as database:
        await storage.put(key, body())
        await database.transact(work)
        lacking = RowStorage(database)
        assert await Sweeper(database=database, storage=lacking, clock=clock).prune() == 0
        assert len(files_below(tmp_path / "kept")) == 1
        assert await Sweeper(database=database, storage=storage, clock=clock).prune() == 1
        assert files_below(tmp_path / "kept") == []


class Broken(ObjectStorage):
    """Gives up a writer that goes on all the same; `key` is the one it is at."""

    key = ""

    async def put(self, key: str, source: AsyncIterator[bytes]) -> Stored:
        self.key = key
        raise StorageUnavailableError


async def test_what_a_writer_stores_after_it_was_given_up_goes_too(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    """Who was cancelled has a thread that may just be moving the object to its place."""
    sound = open_folder(tmp_path / "kept")
    broken = Broken(sound._opened, folder=sound._folder)  # noqa: SLF001 - it takes its place
    database = open_database(database_url)
    sweeper = Sweeper(database=database, storage=sound, clock=gateway.clock)
    uploads = Uploads(
        database=database,
        storage=broken,
        sweeper=sweeper,
        config=UploadsConfig(),
        clock=gateway.clock,
    )

    async def body() -> AsyncIterator[bytes]:
        yield PNG

    try:
        with pytest.raises(StorageUnavailableError):
            await uploads.receive(body(), user_id="alice")
        await sweeper.prune()
        await sound.put(broken.key, body())
        gateway.wait(3600)
        await sweeper.prune()
        assert files_below(tmp_path / "kept") == []
    finally:
        await database.close()
