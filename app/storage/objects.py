"""Objects on a disk or in S3.

On disk an object is written under another name and renamed once it is synced, so that neither a
killed process nor a power cut leaves half of one.
"""

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from anyio import to_thread

from app.storage.errors import ObjectGoneError, StorageUnavailableError
from app.storage.store import Measured, Storage, Stored

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

logger = structlog.get_logger(__name__)

_PART_BYTES = 5 * 2**20  # the smallest part that S3 takes
_PARTS_AT_ONCE = 2
# Each slow reader holds this much in memory; a disk is read in smaller pieces than S3.
_PIECE_ON_DISK, _PIECE_OF_S3 = 2**18, 2**20
_LONGEST_GAP = 8  # in the numbers of an object's drafts, which concurrent writers leave
_KEY = re.compile(r"(files|outputs)/[0-9a-f]{32}")
_STATUS = re.compile(r"non-2xx status code: ([0-9]{3})")
_ERROR_NUMBER = re.compile(r"(?:os error |Os \{\s*code: |Errno )(\d+)")


class ObjectStorage(Storage):
    """`folder` is where the objects are if they are on a disk; writes to it are synced.

    `opened` returns the store, and is called when the first object is written or read. Calls that
    move little data time out after `patience`: a client is waiting, and may be served otherwise.
    """

    def __init__(
        self,
        opened: Callable[[], "LocalStore | S3Store"],
        *,
        folder: Path | None,
        patience: timedelta = timedelta(seconds=5),
    ) -> None:
        self._opened = opened
        self._folder = folder
        self._patience_s = patience.total_seconds()
        self.piece = _PIECE_OF_S3 if folder is None else _PIECE_ON_DISK

    async def put(self, key: str, source: AsyncIterator[bytes]) -> Stored:
        _check(key)
        measured = Measured(source)
        try:
            await self._store.put_async(
                key, measured.chunks(), chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )
            if self._folder is not None:
                await to_thread.run_sync(_sync, self._folder / key)
        except _failures() as exc:
            raise _unavailable("put", exc) from exc
        return measured.stored()

    async def read_piece(self, key: str, *, start: int, stop: int) -> bytes:
        _check(key)
        try:
            piece = await self._store.get_range_async(key, start=start, end=stop)
        except FileNotFoundError as exc:
            raise ObjectGoneError(key) from exc
        except _failures() as exc:
            raise _unavailable("get", exc) from exc
        if not piece:  # the object is shorter than its row says
            raise ObjectGoneError(key)
        return piece.to_bytes()

    async def size(self, key: str) -> int | None:
        _check(key)
        try:
            async with asyncio.timeout(self._patience_s):
                return (await self._store.head_async(key))["size"]
        except FileNotFoundError:
            return None
        except _failures() as exc:
            raise _unavailable("head", exc) from exc

    async def delete(self, key: str) -> None:
        """Delete what a killed writer left of it, too."""
        _check(key)
        # S3 deletes a missing object without an error: there, only the bucket can be missing.
        gone = () if self._folder is None else (FileNotFoundError,)
        try:
            with suppress(*gone):
                async with asyncio.timeout(self._patience_s):
                    await self._store.delete_async(key)
            if self._folder is not None:
                await to_thread.run_sync(_sweep, self._folder / key)
        except _failures() as exc:
            raise StorageUnavailableError from exc

    @cached_property
    def _store(self) -> "LocalStore | S3Store":
        return self._opened()


def _check(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError("not a key of this storage")


def _sync(path: Path) -> None:
    for each in (path, path.parent):
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sweep(path: Path) -> None:
    """Delete drafts of an object, or raise FileNotFoundError if not even its folder is there.

    They are numbered from 1, perhaps with gaps. The folder is not listed: with 200,000 objects
    that takes a quarter of a second.
    """
    path.parent.stat()
    left = _LONGEST_GAP
    for n in itertools.count(1):
        try:
            path.with_name(f"{path.name}#{n}").unlink()
            left = _LONGEST_GAP
        except FileNotFoundError:
            left -= 1
        if not left:
            return


def _failures() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError  # noqa: PLC0415 - as in `opening`

    return BaseError, OSError


def _unavailable(action: str, exc: Exception) -> StorageUnavailableError:
    # Not the exception's own text, which names buckets, keys and what the store answered. A full
    # disk, an unreachable host and one that is too busy raise the same type, so the system's own
    # word or the status is added.
    reason = None
    if status := _STATUS.search(str(exc)):  # first, as what was answered follows it
        reason = f"status {status[1]}"
    elif number := _ERROR_NUMBER.search(str(exc)):
        reason = os.strerror(int(number[1]))
    logger.warning("storage.failed", action=action, kind=type(exc).__name__, reason=reason)
    return StorageUnavailableError()
