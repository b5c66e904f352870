"""What a file is, by its first bytes: a name counts only where the bytes are not at hand."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["image", "video", "audio"]

HEAD_BYTES = 256
"""How many bytes are looked at; fewer if the file is shorter."""

UNKNOWN = "application/octet-stream"

# The types that a browser may show from our origin, sandboxed; none of them can carry script.
SUFFIXES: Mapping[str, str] = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "image/heic": ".heic",
    "image/avif": ".avif",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "audio/ogg": ".ogg",
    "audio/mp4": ".m4a",
    "audio/flac": ".flac",
}


@dataclass(frozen=True, slots=True)
class Format:
    """`kinds` has several members if the container can hold either.

    A format without a `media_type` is recognised, but neither stored nor shown.
    """

    name: str
    kinds: frozenset[Kind]
    media_type: str | None = None


def recognised(head: bytes) -> Format | None:
    """Return the format of a file that begins with `head`, or None if it is not a media file."""
    return _in_container(head) or _by_mark(head) or _by_header(head)


def sniff(head: bytes) -> str | None:
    """Return the media type of a file that begins with `head`, or None if it is none of ours."""
    found = recognised(head)
    return None if found is None else found.media_type


def suffix_of(media_type: str) -> str:
    """Return the extension of a file's name; `.bin` for what browsers must not show."""
    return SUFFIXES.get(media_type, ".bin")


def type_by_name(url: str) -> str:
    """Return what the ending of a file's URL says it is."""
    path = re.split(r"[?#]", url, maxsplit=1)[0]  # of any URL: upstream's may be malformed
    suffix = PurePosixPath(path).suffix.lower().replace(".jpeg", ".jpg")
    return next((kind for kind, end in SUFFIXES.items() if end == suffix), UNKNOWN)


def kind_of(media_type: str) -> str:
    """Return `image`, `video` or `audio`; anything else as it is."""
    return media_type.partition("/")[0]


_IMAGE: frozenset[Kind] = frozenset({"image"})
_VIDEO: frozenset[Kind] = frozenset({"video"})
_AUDIO: frozenset[Kind] = frozenset({"audio"})
_EITHER = _VIDEO | _AUDIO

_MP4 = Format("MP4", _EITHER, "video/mp4")
_WEBM = Format("WebM", _EITHER, "video/webm")
_MATROSKA = Format("Matroska", _EITHER, "video/x-matroska")
_BMP = Format("BMP", _IMAGE, "image/bmp")
_MPEG = Format("MPEG", _VIDEO)
_MP3 = Format("MP3", _AUDIO, "audio/mpeg")
_HEIC = Format("HEIC", _IMAGE, "image/heic")
_AVIF = Format("AVIF", _IMAGE, "image/avif")

_MARKS: tuple[tuple[int, bytes, Format], ...] = (
    (0, b"\xff\xd8\xff", Format("JPEG", _IMAGE, "image/jpeg")),
    (0, b"\x89PNG\r\n\x1a\n", Format("PNG", _IMAGE, "image/png")),
    (0, b"GIF87a", Format("GIF", _IMAGE, "image/gif")),
    (0, b"GIF89a", Format("GIF", _IMAGE, "image/gif")),
    (0, b"II*\0", Format("TIFF", _IMAGE, "image/tiff")),
    (0, b"MM\0*", Format("TIFF", _IMAGE, "image/tiff")),
    (0, b"II+\0", Format("TIFF", _IMAGE)),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", Format("JPEG 2000", _IMAGE)),
    (0, b"FLV\x01", Format("Flash video", _VIDEO)),
    (0, b"\0\0\x01\xba", _MPEG),
    (0, b"\0\0\x01\xb3", _MPEG),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Format("Windows Media", _EITHER)),
    *(
        (4, box, Format("QuickTime", _VIDEO))
        for box in (b"moov", b"mdat", b"wide", b"free", b"skip")
    ),
    (0, b"OggS", Format("Ogg", _EITHER, "audio/ogg")),
    (0, b"fLaC", Format("FLAC", _AUDIO, "audio/flac")),
    (0, b"ID3", _MP3),
    (0, b"#!AMR", Format("AMR", _AUDIO)),
)
_IN_RIFF: Mapping[bytes, Format] = {
    b"WEBP": Format("WebP", _IMAGE, "image/webp"),
    b"WAVE": Format("WAV", _AUDIO, "audio/wav"),
    b"AVI ": Format("AVI", _VIDEO),
}
_IN_FORM: Mapping[bytes, Format] = {
    b"AIFF": Format("AIFF", _AUDIO),
    b"AIFC": Format("AIFF", _AUDIO),
}
_BRANDS: Mapping[bytes, Format] = {
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), _HEIC
    ),
    **dict.fromkeys((b"M4A ", b"M4B "), Format("M4A", _AUDIO, "audio/mp4")),
    b"qt  ": Format("QuickTime", _VIDEO, "video/quicktime"),
}
_WHOLE_BRAND = 4
_SMALLEST_FTYP, _LARGEST_FTYP = 16, 4096
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_TS_PACKET = 188
_TS_SYNC = b"G"
_LAYER_3 = 1


def _in_container(head: bytes) -> Format | None:
    match head[:4]:
        case b"RIFF":
            return _IN_RIFF.get(head[8:12])
        case b"FORM":
            return _IN_FORM.get(head[8:12])
        case b"\x1a\x45\xdf\xa3":  # EBML; its document type is in the first bytes
            return _WEBM if b"webm" in head[:64] else _MATROSKA
        case _:
            return _by_brand(head) if head[4:8] == b"ftyp" else None


def _by_brand(head: bytes) -> Format | None:
    size, brand = int.from_bytes(head[:4], "big"), head[8:12]
    if not _SMALLEST_FTYP <= size <= _LARGEST_FTYP or len(brand) < _WHOLE_BRAND:
        return None
    found = _BRANDS.get(brand, _MP4)
    return _AVIF if found is _HEIC and b"avif" in head[16:HEAD_BYTES] else found


def _by_mark(head: bytes) -> Format | None:
    return next((found for at, mark, found in _MARKS if head.startswith(mark, at)), None)


def _by_header(head: bytes) -> Format | None:
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return _BMP
    if head[:1] == _TS_SYNC == head[_TS_PACKET : _TS_PACKET + 1]:
        return _MPEG
    return _mpeg_audio(head)


def _mpeg_audio(head: bytes) -> Format | None:
    """Look for a frame header whose every field is valid; its 11 sync bits alone are too few."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        is_adts = head[1] & 0xF0 == 0xF0 and head[2] >> 2 & 15 < 13  # noqa: PLR2004
        return Format("AAC", _AUDIO) if is_adts else None
    sound = version != 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3  # noqa: PLR2004
    if not sound:
        return None
    # UTF-16 text can look like layer I, so only layer III, which people use, is a known type.
    return _MP3 if layer == _LAYER_3 else Format("MP3", _AUDIO)
