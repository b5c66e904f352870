"""Width and height of an image from the few bytes that hold them, wherever in the file they are."""

import io
from dataclasses import dataclass
from typing import Literal, Protocol

import imagesize  # type: ignore[import-untyped]  # it has no types

from app.core.media_types import HEAD_BYTES, Format, recognised

_MOST_BYTES = 2**20
# The work of walking through a file, in bytes read; each read costs about as much as ten.
_MOST_EFFORT = 2**16
_EFFORT_OF_A_READ = 10
_ENDLESS = 2**62


class Source(Protocol):
    """A file from any source; its size is known after the first load, if ever."""

    @property
    def size(self) -> int | None: ...

    async def load(self, offset: int) -> bytes | None:
        """Return some bytes from `offset` on, more each time.

        Empty beyond the end, and None if they would cost too much.
        """
        ...


@dataclass(frozen=True, slots=True)
class Dimensions:
    """In pixels, as stored: an Exif rotation is not applied.

    Whether RunComfy applies it is not known, and matters for none of the rules that its models
    have: they bound width and height alike, and a ratio by a number and its reciprocal.
    """

    width: int
    height: int


class MediaFile:
    """What is known about a file so far; every question loads what it needs, up to a megabyte."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._window = _Window()

    async def format(self) -> Format | None:
        head = await self._head()
        return recognised(head)

    async def is_empty(self) -> bool:
        return not await self._head()

    async def dimensions(self) -> Dimensions | Literal["broken", "too far"]:
        """Measure an image; `broken` if it has no size, `too far` if finding it costs too much."""
        while True:
            width, height = imagesize.get(self._window.rewound(), exif_rotation=False)
            missing = self._window.missing
            if missing is None:
                is_sound = width > 0 and height > 0 and not self._window.is_over_budget
                return Dimensions(int(width), int(height)) if is_sound else "broken"
            if self._window.held >= _MOST_BYTES or not await self._load(missing):
                return "too far"

    async def _head(self) -> bytes:
        while (missing := self._window.gap_before(HEAD_BYTES)) is not None:
            if not await self._load(missing):
                break
        return self._window.first(HEAD_BYTES)

    async def _load(self, offset: int) -> bool:
        piece = await self._source.load(offset)
        if piece is None:
            return False
        self._window.add(offset, piece)
        self._window.limit(self._source.size)
        return True


class _Window:
    """The loaded parts of a file, as imagesize reads files; notes the first byte that is missing.

    imagesize turns every exception into "no size", so what was missing is found here afterwards.
    """

    def __init__(self) -> None:
        self._spans: dict[int, bytes] = {}
        self._end: int | None = None
        self._position = 0
        self._effort = 0
        self.missing: int | None = None

    @property
    def held(self) -> int:
        return sum(map(len, self._spans.values()))

    @property
    def is_over_budget(self) -> bool:
        """Return whether all passes together did more work than any honest file takes."""
        return self._effort > _MOST_EFFORT

    def add(self, offset: int, piece: bytes) -> None:
        if piece:
            self._spans[offset] = piece
        else:
            self.limit(offset)

    def limit(self, size: int | None) -> None:
        if size is not None:
            self._end = size if self._end is None else min(self._end, size)

    def gap_before(self, stop: int) -> int | None:
        have = len(self._from(0, stop))
        return None if have >= min(stop, self._last()) else have

    def first(self, count: int) -> bytes:
        return self._from(0, count)

    def rewound(self) -> "_Window":
        self._position = 0
        self.missing = None
        return self

    def read(self, size: int = -1) -> bytes:
        stop = self._last() if size < 0 else min(self._position + size, self._last())
        data = self._from(self._position, stop)
        if self._position + len(data) < stop:
            self.missing = self._position + len(data)
            raise EOFError
        self._effort += _EFFORT_OF_A_READ + len(data)
        if self.is_over_budget:
            raise ValueError("too much to walk through")
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._last()}
        self._position = starts[whence] + offset
        return self._position

    def _last(self) -> int:
        return _ENDLESS if self._end is None else self._end

    def _from(self, start: int, stop: int) -> bytes:
        """Return what is loaded from `start` on, up to `stop` or the first gap."""
        data = b""
        while start + len(data) < stop:
            at = start + len(data)
            piece = self._span_at(at)[: stop - at]
            if not piece:
                break
            data += piece
        return data

    def _span_at(self, at: int) -> bytes:
        holding = (
            held[at - begin :]
            for begin, held in self._spans.items()
            if begin <= at < begin + len(held)
        )
        return next(holding, b"")
