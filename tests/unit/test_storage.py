"""Objects are written whole or not at all, on a disk as in S3."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from obstore.store import S3Store
from structlog.testing import capture_logs

from app.core.errors import ConfigurationError
from app.core.media_types import HEAD_BYTES
from app.storage.errors import ObjectGoneError, StorageUnavailableError
from app.storage.objects import ObjectStorage
from app.storage.opening import open_storage
from app.storage.store import Storage, new_key
from tests.support.storages import files_below, point_at, running_s3
from tests.support.wire_server import Line, answer, answers, wire_server

MIB = 2**20


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with running_s3() as address:
        yield address


@pytest.fixture(params=["disk", "s3"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "disk":
        return open_storage(f"file://{tmp_path}/a%20folder")
    return open_storage(point_at(request.getfixturevalue("s3"), monkeypatch))


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_what_was_put_is_read_by_ranges_until_it_is_deleted(storage: Storage) -> None:
    key, data = new_key("outputs"), b"".join(n.to_bytes(4, "big") for n in range(2 * MIB))
    source = (data[at : at + 700_001] for at in range(0, len(data), 700_001))
    stored = await storage.put(key, chunks(b"", *source))
    assert (stored.size, stored.head) == (len(data), data[:HEAD_BYTES])
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert await storage.size(key) == len(data)
    assert b"".join([piece async for piece in storage.read(key, start=0, stop=len(data))]) == data
    middle = [piece async for piece in storage.read(key, start=MIB - 3, stop=2 * MIB + 5)]
    assert b"".join(middle) == data[MIB - 3 : 2 * MIB + 5]
    assert max(map(len, middle)) <= MIB

    short = await storage.put(key, chunks(b"new"))
    assert (short.size, await storage.size(key)) == (3, 3)
    await storage.delete(key)
    await storage.delete(key)
    assert await storage.size(key) is None
    with pytest.raises(ObjectGoneError):
        await storage.read_piece(key, start=0, stop=1)


async def test_an_empty_object_is_one(storage: Storage) -> None:
    key = new_key("files")
    stored = await storage.put(key, chunks())
    assert (stored.size, stored.head) == (0, b"")
    assert await storage.size(key) == 0


async def test_a_source_that_breaks_off_leaves_nothing(storage: Storage) -> None:
    key = new_key("outputs")

    async def breaks_off() -> AsyncIterator[bytes]:
        for _ in range(7):
            yield bytes(MIB)
        raise ConnectionResetError("upstream left")

    with pytest.raises((ConnectionResetError, StorageUnavailableError)):
        await storage.put(key, breaks_off())
    assert await storage.size(key) is None


async def test_a_writer_that_is_cancelled_or_killed_leaves_no_half_file(tmp_path: Path) -> None:
    storage, key = open_storage(f"file://{tmp_path}/kept"), new_key("outputs")
    halfway, never = asyncio.Event(), asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield bytes(6 * MIB)
        halfway.set()
        await never.wait()

    writing = asyncio.ensure_future(storage.put(key, stalls()))
    await halfway.wait()
    assert await storage.size(key) is None
    assert files_below(tmp_path) == [tmp_path / "kept" / f"{key}#1"]
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await storage.size(key) is None

    for n in (*range(1, 12), 15):  # as killed processes leave them
        (tmp_path / "kept" / f"{key}#{n}").write_bytes(b"half")
    await storage.put(key, chunks(b"whole"))
    await storage.delete(key)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("key", ["../x", "files/..", "files/" + "a" * 31, "x/" + "a" * 32, "/etc"])
async def test_only_keys_that_were_made_here_lead_anywhere(tmp_path: Path, key: str) -> None:
    storage = open_storage(f"file://{tmp_path}")
    for attempt in (
        storage.put(key, chunks(b"x")),
        storage.read_piece(key, start=0, stop=1),
        storage.size(key),
        storage.delete(key),
    ):
        with pytest.raises(ValueError, match="not a key"):
            await attempt


async def test_a_storage_that_is_away_says_so_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(point_at("http://127.0.0.1:9", monkeypatch))
    with pytest.raises(StorageUnavailableError) as caught:
        await storage.size(new_key("files"))
    assert "127.0.0.1" not in str(caught.value)


async def test_the_log_says_why_a_storage_fails_and_not_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = open_storage(f"file://{tmp_path}")
    (tmp_path / "outputs").rmdir()
    (tmp_path / "outputs").write_bytes(b"in its place")
    bucket = open_storage(point_at("http://127.0.0.1:9", monkeypatch))
    for storage, reason in ((disk, "Not a directory"), (bucket, "Connection refused")):
        with capture_logs() as logs, pytest.raises(StorageUnavailableError):
            await storage.put(new_key("outputs"), chunks(b"x"))
        told = {"log_level": "warning", "event": "storage.failed", "action": "put"}
        assert logs == [told | {"kind": "GenericError", "reason": reason}]


async def test_the_log_says_with_what_an_object_store_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = answer(503, raw=b"<Error><Code>SlowDown</Code><Key>of a user</Key></Error>")
    async with wire_server(answers(*[busy] * 9)) as store:
        storage = open_storage(point_at(store.url, monkeypatch))
        with capture_logs() as logs, pytest.raises(StorageUnavailableError):
            await storage.put(new_key("outputs"), chunks(b"x"))
    assert [line["reason"] for line in logs] == ["status 503"]


async def test_nothing_counts_as_deleted_where_the_storage_itself_is_missing(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is not mounted, or a bucket of another name, will be back with all it had."""
    point_at(s3, monkeypatch)
    lost = open_storage(f"file://{tmp_path}/lost")
    shutil.rmtree(tmp_path / "lost")
    for storage in (lost, open_storage("s3://of-another-name/some/where")):
        with pytest.raises(StorageUnavailableError):
            await storage.delete(new_key("outputs"))


async def test_a_storage_that_hangs_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async with wire_server(Line.wait_for_the_other_end) as silent:
        url = point_at(silent.url, monkeypatch)
        storage = ObjectStorage(
            lambda: S3Store.from_url(url, client_options={"allow_http": True}),
            folder=None,
            patience=timedelta(milliseconds=100),
        )
        for attempt in (storage.size, storage.delete):
            with pytest.raises(StorageUnavailableError):
                await attempt(new_key("outputs"))


async def test_credentials_that_are_set_to_nothing_leave_it_to_the_machines_role(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    role = {
        "AccessKeyId": "id-of-the-role",
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": "2100-01-01T00:00:00Z",
    }

    async def machine(line: Line) -> None:
        while True:
            match (await line.request()).target.rpartition("/"):
                case _, _, "token":
                    await line.send(answer(raw=b"of-the-session"))
                case _, _, "":
                    await line.send(answer(raw=b"role"))
                case _, _, "role":
                    await line.send(answer(body=role))
                case _:
                    await line.send(answer(404, raw=b""))

    async with wire_server(machine) as server:
        url = point_at(server.url, monkeypatch)
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", server.url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.setenv(name, "")
        assert await open_storage(url).size(new_key("files")) is None
        asked = server.received[-1]
    assert (asked.method, "id-of-the-role/" in asked.headers["authorization"]) == ("HEAD", True)


def test_a_folder_that_cannot_be_is_told_at_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigurationError, match="GATEWAY_STORAGE_URL"):
        open_storage(f"file://{tmp_path}/taken/x")
