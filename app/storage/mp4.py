"""Duration and codec of an MP4 or MOV file, from a bounded look at its boxes (ISO 14496-12)."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

Reader = Callable[[int, int], Awaitable[bytes]]
"""Returns the bytes from a start to an end (exclusive); fewer at the end of the file."""

_MOST_BOXES = 64
_MOST_HEADER_BYTES = 2**22
_LARGEST_SIZE = 16  # of a box's header, with a 64-bit size
_LONGEST = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What the file says about itself; None where it does not, or not plausibly."""

    duration: timedelta | None = None
    codec: str | None = None


async def look(read: Reader, *, size: int) -> Film:
    """Find the movie's header among the top-level boxes, wherever it is; never raises itself.

    It passes over at most 64 boxes, and reads at most 4 MiB of the header.
    """
    at = 0
    for _ in range(_MOST_BOXES):
        header = await read(at, min(at + _LARGEST_SIZE, size))
        box = _box(header, 0, most=size - at)
        if box is None:
            break
        kind, body, end = box
        if kind == b"moov":
            stop = min(at + end, at + body + _MOST_HEADER_BYTES)
            return film_of(await read(at + body, stop))
        at += end
    return Film()


def film_of(moov: bytes) -> Film:
    """Read the inside of a `moov` box; it may be cut short or broken."""
    codecs: dict[bytes, str] = {}
    for track in _inside(moov, b"trak"):
        handler, codec = _track(track)
        if codec:
            codecs.setdefault(handler, codec)
    codec = codecs.get(b"vide") or next(iter(codecs.values()), None)
    return Film(duration=_duration(moov), codec=codec)


def _track(trak: bytes) -> tuple[bytes, str | None]:
    media = next(_inside(trak, b"mdia"), b"")
    handler = next(_inside(media, b"hdlr"), b"")[8:12]
    for information in _inside(media, b"minf"):
        for samples in _inside(information, b"stbl"):
            for description in _inside(samples, b"stsd"):
                name = description[12:16]  # past version, flags, count and the entry's size
                if len(name) == 4 and all(0x20 < byte < 0x7F for byte in name):  # noqa: PLR2004
                    return handler, name.decode("ascii")
    return handler, None


def _duration(moov: bytes) -> timedelta | None:
    header = next(_inside(moov, b"mvhd"), b"")
    wide = header[:1] == b"\1"
    scale = int.from_bytes(header[20:24] if wide else header[12:16], "big")
    length = header[24:32] if wide else header[16:20]
    units = int.from_bytes(length, "big")
    if not units:  # fragmented: the duration is elsewhere, if anywhere
        extends = next(_inside(moov, b"mvex"), b"")
        mehd = next(_inside(extends, b"mehd"), b"")
        units = int.from_bytes(mehd[4:12] if mehd[:1] == b"\1" else mehd[4:8], "big")
    if not scale or not units or units / scale > _LONGEST.total_seconds():
        return None
    return timedelta(seconds=units / scale)


def _inside(data: bytes, wanted: bytes) -> Iterator[bytes]:
    at = 0
    for _ in range(_MOST_BOXES):
        box = _box(data, at, most=len(data) - at)
        if box is None:
            return
        kind, body, end = box
        if kind == wanted:
            yield data[at + body : at + end]
        at += end


def _box(data: bytes, at: int, *, most: int) -> tuple[bytes, int, int] | None:
    """Return a box's kind, and where its body begins and ends, relative to the box."""
    size, kind, body = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
    if size == 1:
        size, body = int.from_bytes(data[at + 8 : at + 16], "big"), 16
    elif size == 0:
        size = most  # up to the end of its parent
    if len(data) - at < body or size < body:
        return None
    return kind, body, min(size, most)
