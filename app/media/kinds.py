"""What a file is, by its first bytes: its name and what its server calls it count for nothing."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "video", "audio"]

HEAD_BYTES = 256
"""As many bytes as `recognised` looks at; fewer will do where the file has no more."""


@dataclass(frozen=True, slots=True)
class Format:
    """`kinds` has several members where the container can hold either."""

    name: str
    kinds: frozenset[Kind]


_STARTS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (8, b"WEBP", "WebP"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (8, b"AVI ", "AVI"),
    (0, b"FLV\x01", "Flash video"),
    (0, b"\0\0\x01\xba", "MPEG"),
    (0, b"\0\0\x01\xb3", "MPEG"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    *((4, box, "QuickTime") for box in (b"moov", b"mdat", b"wide", b"free", b"skip")),
    (8, b"WAVE", "WAV"),
    (0, b"OggS", "Ogg"),
    (0, b"fLaC", "FLAC"),
    (0, b"ID3", "MP3"),
    (8, b"AIFF", "AIFF"),
    (8, b"AIFC", "AIFF"),
    (0, b"#!AMR", "AMR"),
)
_IN_RIFF = frozenset({"WebP", "AVI", "WAV"})
_IN_FORM = frozenset({"AIFF"})
_IMAGES = frozenset({"JPEG", "PNG", "GIF", "TIFF", "WebP", "JPEG 2000", "BMP", "AVIF", "HEIC"})
_VIDEOS = frozenset({"AVI", "Flash video", "MPEG", "QuickTime"})
_AUDIOS = frozenset({"WAV", "FLAC", "MP3", "AIFF", "AMR", "AAC", "M4A"})
_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_M4A = frozenset({b"M4A ", b"M4B "})
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_TS_PACKET = 188
_TS_SYNC = b"G"


def recognised(head: bytes) -> Format | None:
    """Tell the format of a file that begins with `head`, or None if it is no media file."""
    name = _name(head)
    return None if name is None else Format(name, _kinds(name))


def _name(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    for offset, mark, name in _STARTS:
        if head.startswith(mark, offset) and _container_fits(head, name):
            return name
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[:1] == _TS_SYNC == head[_TS_PACKET : _TS_PACKET + 1]:
        return "MPEG"
    return _mpeg_audio(head)


def _container_fits(head: bytes, name: str) -> bool:
    if name in _IN_RIFF:
        return head.startswith(b"RIFF")
    return not (name in _IN_FORM and not head.startswith(b"FORM"))


def _by_brand(head: bytes) -> str:
    brand = head[8:12]
    if brand in _AVIF:
        return "AVIF"
    if brand in _HEIC:
        return "AVIF" if b"avif" in head[16:] else "HEIC"
    if brand in _M4A:
        return "M4A"
    return "QuickTime" if brand == b"qt  " else "MP4"


def _mpeg_audio(head: bytes) -> str | None:
    """Look for a frame header whose every field means something; its 11 sync bits are too few."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        return "AAC" if head[1] & 0xF0 == 0xF0 and head[2] >> 2 & 15 < 13 else None  # noqa: PLR2004
    sound = version != 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3  # noqa: PLR2004
    return "MP3" if sound else None


def _kinds(name: str) -> frozenset[Kind]:
    if name in _IMAGES:
        return frozenset({"image"})
    if name in _VIDEOS:
        return frozenset({"video"})
    if name in _AUDIOS:
        return frozenset({"audio"})
    return frozenset({"video", "audio"})
