"""Objects under keys, on a disk or in S3: written whole or not at all, read by ranges.

A key is made here, of random characters; nothing that a client sent is ever part of one. On disk
an object is written beside its place and moved there once it is synced, so that neither a killed
process nor a power cut leaves half of one under its name.
"""

import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import obstore
import structlog
from anyio import to_thread
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from app.core.errors import ConfigurationError
from app.core.media_types import HEAD_BYTES
from app.storage.errors import ObjectGoneError, StorageUnavailableError

logger = structlog.get_logger(__name__)

Purpose = Literal["files", "outputs"]

_PART_BYTES = 5 * 2**20  # the least that S3 takes as a part
_PARTS_AT_ONCE = 2
# Of each slow reader as much is in memory; a disk is read in smaller pieces than S3 is asked for.
_PIECE_ON_DISK, _PIECE_OF_S3 = 2**18, 2**20
_KEY = re.compile(r"(files|outputs)/[0-9a-f]{32}")
_RETRIES = 3
_PATIENCE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What was written; `head` is its beginning, for telling what it is."""

    size: int
    sha256: str
    head: bytes


def new_key(purpose: Purpose) -> str:
    return f"{purpose}/{secrets.token_hex(16)}"


class Storage:
    """`folder` is where the objects are if that is a disk; then writes are synced to it."""

    def __init__(self, store: LocalStore | S3Store, *, folder: Path | None) -> None:
        self._store = store
        self._folder = folder
        self._piece = _PIECE_OF_S3 if folder is None else _PIECE_ON_DISK

    async def put(self, key: str, source: AsyncIterator[bytes]) -> Stored:
        """Write all of `source`, or nothing if it raises; a key that is there is overwritten."""
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
            await obstore.put_async(
                self._store,
                key,
                measured(),
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
            if self._folder is not None:
                await to_thread.run_sync(_sync, self._folder / key)
        except (BaseError, OSError) as exc:
            raise _unavailable("put", exc) from exc
        return Stored(size=size, sha256=digest.hexdigest(), head=head)

    async def read(self, key: str, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """Give the bytes from `start` to before `stop`, a piece at a time as they are wanted.

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
            piece = await obstore.get_range_async(self._store, key, start=start, end=stop)
        except FileNotFoundError as exc:
            raise ObjectGoneError(key) from exc
        except (BaseError, OSError) as exc:
            raise _unavailable("get", exc) from exc
        if not piece:  # an object that is shorter than its row says
            raise ObjectGoneError(key)
        return piece.to_bytes()

    async def size(self, key: str) -> int | None:
        """Tell how long an object is; None if there is none."""
        _check(key)
        try:
            return (await obstore.head_async(self._store, key))["size"]
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as exc:
            raise _unavailable("head", exc) from exc

    async def delete(self, key: str) -> None:
        """Delete an object and what a killed writer left of it; gone already is fine."""
        _check(key)
        try:
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)
            if self._folder is not None:
                await to_thread.run_sync(_sweep, self._folder / key)
        except (BaseError, OSError) as exc:
            raise _unavailable("delete", exc) from exc


def open_storage(url: str) -> Storage:
    """Open `file:///folder`, which is made if need be, or `s3://bucket/prefix`.

    What S3 needs further comes from the environment's AWS_* variables, as everywhere else.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return open_folder(Path(unquote(parts.path)))
    options = {"connect_timeout": "5s", "timeout": f"{_PATIENCE.total_seconds():.0f}s"}
    try:
        store = S3Store.from_url(
            url,
            client_options={**options, "allow_http": _allows_http()},  # type: ignore[arg-type]
            retry_config={"max_retries": _RETRIES, "retry_timeout": _PATIENCE},
        )
    except (BaseError, ValueError) as exc:
        raise ConfigurationError(
            "GATEWAY_STORAGE_URL cannot be used with the AWS_* variables that are set."
        ) from exc
    return Storage(store, folder=None)


def open_folder(folder: Path) -> Storage:
    folder = folder.resolve()
    try:
        for purpose in ("files", "outputs"):
            (folder / purpose).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(
            f"The storage folder {folder} cannot be made ({exc.strerror});"
            " set GATEWAY_STORAGE_URL to one that can."
        ) from exc
    return Storage(LocalStore(folder), folder=folder)


def _allows_http() -> bool:
    """Plain http only to an endpoint that the operator named so, as other S3 clients do."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return endpoint.startswith("http://")


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
    for draft in path.parent.glob(f"{path.name}#*"):
        draft.unlink(missing_ok=True)


def _unavailable(action: str, exc: Exception) -> StorageUnavailableError:
    # Not the exception's own text: it names buckets, keys and what the store answered.
    logger.warning("storage.failed", action=action, kind=type(exc).__name__)
    return StorageUnavailableError()
