"""What a file is, by its first bytes: what a client or a server calls it counts for nothing."""

from collections.abc import Mapping

HEAD_BYTES = 64
"""As many bytes as `sniff` looks at."""

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

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
)
_RIFF: Mapping[bytes, str] = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_HEIC = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"})
_AVIF = frozenset({b"avif", b"avis"})
_M4A = frozenset({b"M4A ", b"M4B "})
_NO_BRAND = b"\0\0\0\0"
_SMALLEST_FTYP, _LARGEST_FTYP = 16, 4096
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})


def sniff(head: bytes) -> str | None:
    """Tell the media type of a file that begins with `head`, or None if it is none of ours."""
    for start, media_type in _STARTS:
        if head.startswith(start):
            return media_type
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML; its document type stands in the first bytes
        return "video/webm" if b"webm" in head[:HEAD_BYTES] else "video/x-matroska"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    return "audio/mpeg" if _is_mpeg_audio(head) else None


def suffix_of(media_type: str) -> str:
    """Give the ending of a file's name; `.bin` for what browsers must not show."""
    return SUFFIXES.get(media_type, ".bin")


def kind_of(media_type: str) -> str:
    """Give `image`, `video` or `audio`; anything else as it is."""
    return media_type.partition("/")[0]


def _by_brand(head: bytes) -> str | None:
    size, brand = int.from_bytes(head[:4], "big"), head[8:12]
    if not _SMALLEST_FTYP <= size <= _LARGEST_FTYP or len(brand) < len(_NO_BRAND):
        return None
    if brand in _AVIF:
        return "image/avif"
    if brand in _HEIC:
        return "image/avif" if b"avif" in head[16:HEAD_BYTES] else "image/heic"
    if brand in _M4A:
        return "audio/mp4"
    return "video/quicktime" if brand == b"qt  " else "video/mp4"


def _is_mpeg_audio(head: bytes) -> bool:
    """Look for a frame of layer III with a bit rate and a sampling rate that exist."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # noqa: PLR2004 - its header
        return False
    return head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3 and head[1] >> 3 & 3 != 1  # noqa: PLR2004
