"""What a storage is: objects under keys, written whole or not at all, read in ranges.

A key is made here, of random characters; nothing that a client sent is ever part of one.
"""

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from app.core.media_types import HEAD_BYTES

Purpose = Literal["files", "outputs", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What was written; `head` is its beginning, to detect its type."""

    size: int
    sha256: str
    head: bytes


def new_key(purpose: Purpose) -> str:
    return f"{purpose}/{secrets.token_hex(16)}"


class Storage(ABC):
    """Each method raises StorageUnavailableError if the storage does not answer."""

    uploads: Purpose = "files"
    """The purpose in the keys of new uploads."""

    holds = ""
    """What the keys of all objects that it may hold begin with."""

    piece: int
    """How many bytes are read at a time; each slow reader holds as many in memory."""

    @abstractmethod
    async def put(self, key: str, source: AsyncIterator[bytes]) -> Stored:
        """Write all of `source`, or nothing if it raises; an existing key is overwritten."""

    @abstractmethod
    async def read_piece(self, key: str, *, start: int, stop: int) -> bytes:
        """Return some of the bytes from `start` on, up to `stop`. Raises ObjectGoneError."""

    @abstractmethod
    async def size(self, key: str) -> int | None:
        """Return the length of an object; None if there is none."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Delete an object, which may be gone already.

        The caller logs what goes wrong: many may fail at once.
        """

    async def read(self, key: str, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to before `stop`, a piece at a time as they are asked for.

        Raises ObjectGoneError, also halfway. Each piece is a read of its own: a slow reader holds
        neither a connection nor more memory than its piece.
        """
        while start < stop:
            piece = await self.read_piece(key, start=start, stop=min(start + self.piece, stop))
            start += len(piece)
            yield piece


class Measured:
    """Passes chunks on, and knows what has passed."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self._size = 0
        self._head = b""

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._source:
            if len(self._head) < HEAD_BYTES:
                self._head = (self._head + chunk)[:HEAD_BYTES]
            self._size += len(chunk)
            self._digest.update(chunk)
            yield chunk

    def stored(self) -> Stored:
        return Stored(size=self._size, sha256=self._digest.hexdigest(), head=self._head)
