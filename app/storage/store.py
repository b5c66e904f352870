"""Objects under keys, on a disk or in S3: written whole or not at all, read in ranges.

A key is made here, of random characters; nothing that a client sent is ever part of one. On disk
an object is written under another name and renamed once it is synced, so that neither a killed
process nor a power cut leaves half of one.
"""

import asyncio
import hashlib
import itertools
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import structlog
from anyio import to_thread

from app.core.media_types import HEAD_BYTES
from app.storage.errors import ObjectGoneError, StorageUnavailableError

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

logger = structlog.get_logger(__name__)

Purpose = Literal["files", "outputs"]

_PART_BYTES = 5 * 2**20  # the smallest part that S3 takes
_PARTS_AT_ONCE = 2
# Each slow reader holds this much in memory; a disk is read in smaller pieces than S3.
_PIECE_ON_DISK, _PIECE_OF_S3 = 2**18, 2**20
_DRAFTS_ASIDE = 8  # of one object, by concurrent writers: so many numbers in a row may be unused
_KEY = re.compile(r"(files|outputs)/[0-9a-f]{32}")
_ERROR_NUMBER = re.compile(r"(?:os error |Os \{\s*code: |Errno )(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What was written; `head` is its beginning, to detect its type."""

    size: int
    sha256: str
    head: bytes


def new_key(purpose: Purpose) -> str:
    return f"{purpose}/{secrets.token_hex(16)}"


class Storage:
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
        self._piece = _PIECE_OF_S3 if folder is None else _PIECE_ON_DISK

    async def put(self, key: str, source: AsyncIterator[bytes]) -> Stored:
        """Write all of `source`, or nothing if it raises; an existing key is overwritten."""
        _check(key)
        digest, size, head = hashlib.sha256(), 0, b""

        async def measured() -> AsyncIterator[bytes]:
            nonlocal size, head
            async for chunk in source:
                if len(head) < HEAD_BYTES:
                    head = (head + chunk)[:HEAD_BYTES]
                size += len(chunk)
                digest.update(chunk)
                yield chunk

        try:
            await self._store.put_async(
                key, measured(), chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )
            if self._folder is not None:
                await to_thread.run_sync(_sync, self._folder / key)
        except _failures() as exc:
            raise _unavailable("put", exc) from exc
        return Stored(size=size, sha256=digest.hexdigest(), head=head)

    async def read(self, key: str, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to before `stop`, a piece at a time as they are asked for.

        Raises ObjectGoneError, also halfway. Each piece is a read of its own: a slow reader holds
        neither a connection nor more memory than its piece.
        """
        while start < stop:
            piece = await self.read_piece(key, start=start, stop=min(start + self._piece, stop))
            start += len(piece)
            yield piece

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
        """Return the length of an object; None if there is none."""
        _check(key)
        try:
            async with asyncio.timeout(self._patience_s):
                return (await self._store.head_async(key))["size"]
        except FileNotFoundError:
            return None
        except _failures() as exc:
            raise _unavailable("head", exc) from exc

    async def delete(self, key: str) -> None:
        """Delete an object and what killed writers left of it; it may be gone already.

        Raises StorageUnavailableError, which the caller logs: many may fail at once.
        """
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
    left = _DRAFTS_ASIDE
    for n in itertools.count(1):
        try:
            path.with_name(f"{path.name}#{n}").unlink()
            left = _DRAFTS_ASIDE
        except FileNotFoundError:
            left -= 1
        if not left:
            return


def _failures() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError  # noqa: PLC0415 - as in `opening`

    return BaseError, OSError


def _unavailable(action: str, exc: Exception) -> StorageUnavailableError:
    # Not the exception's own text, which names buckets, keys and what the store answered. A full
    # disk and an unreachable host raise the same type, so the system's own word is added.
    number = _ERROR_NUMBER.search(str(exc))
    reason = os.strerror(int(number[1])) if number else None
    logger.warning("storage.failed", action=action, kind=type(exc).__name__, reason=reason)
    return StorageUnavailableError()
