"""A file's first bytes decide what it is, and what it may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.media_types import SUFFIXES, recognised, sniff, suffix_of

FTYP = b"\0\0\0\x20ftyp"
EBML = b"\x1a\x45\xdf\xa3"


@pytest.mark.parametrize(
    ("head", "media_type", "kinds"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg", "image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png", "image"),
        (b"GIF89a\1\0\1\0", "image/gif", "image"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp", "image"),
        (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image/bmp", "image"),
        (b"II*\0\x08\0\0\0", "image/tiff", "image"),
        (b"MM\0*\0\0\0\x08", "image/tiff", "image"),
        (FTYP + b"heic\0\0\0\0mif1heic", "image/heic", "image"),
        (FTYP + b"hevx\0\0\0\0mif1hevx", "image/heic", "image"),
        (FTYP + b"avif\0\0\0\0mif1miaf", "image/avif", "image"),
        (FTYP + b"mif1\0\0\0\0mif1avif", "image/avif", "image"),
        (FTYP + b"isom\0\0\2\0isomiso2avc1mp41", "video/mp4", "audio video"),
        (FTYP + b"qt  \0\0\2\0qt  ", "video/quicktime", "video"),
        (EBML + b"\x9fB\x86\x81\1B\xf7\x81\1B\x82\x84webm", "video/webm", "audio video"),
        (EBML + b"\xa3B\x86\x81\1B\x82\x88matroska", "video/x-matroska", "audio video"),
        (FTYP + b"M4A \0\0\0\0", "audio/mp4", "audio"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav", "audio"),
        (b"ID3\4\0\0\0\0\0\0", "audio/mpeg", "audio"),
        (b"\xff\xfb\x90\x64", "audio/mpeg", "audio"),
        (b"OggS\0\2", "audio/ogg", "audio video"),
        (b"fLaC\0\0\0\x22", "audio/flac", "audio"),
    ],
)
def test_what_models_take_is_known_and_may_be_stored(
    head: bytes, media_type: str, kinds: str
) -> None:
    found = recognised(head)
    assert found is not None
    assert (sniff(head), " ".join(sorted(found.kinds))) == (media_type, kinds)
    assert suffix_of(media_type) != ".bin"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video"),
        (b"RIFF\x24\0\0\0AVI LIST", "video"),
        (b"\0\0\x01\xba\x44", "video"),
        (b"G@\x00\x10".ljust(188, b"\xff") + b"G@\x01", "video"),
        (b"\xff\xf1\x50\x80", "audio"),
        (b"FORM\0\0\0\0AIFFCOMM", "audio"),
    ],
)
def test_what_browsers_do_not_show_is_recognised_and_not_stored(head: bytes, kind: str) -> None:
    found = recognised(head)
    assert found is not None
    assert (found.kinds, sniff(head)) == ({kind}, None)


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"\0", b"<!doctype html><script>", b"<svg xmlns='http://www.w3.org/2000/svg'>"),
        *(b"%PDF-1.7", b"PK\3\4", b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\n", b'{"a": 1}'),
        *(b"BM is a text about", b"ftyp", b"\0\0\0\4ftypisom", b"\xff\xff", b"XXXX\0\0\0\0WEBP"),
        *(b"\xff\xd8", b"GIF88a", b"\x89PNG\n\x1a\n", b"\xef\xbb\xbf<html>", b"\xff\xfb\xff\xff"),
        *(b"\xff\xff\xff\xff", b"\xff\xfe<\0h\0", b"\x1f\x8b\x08", b"Good morning"),
    ],
)
def test_what_is_not_media_is_not_recognised(head: bytes) -> None:
    assert recognised(head) is None


@given(st.binary(max_size=80))
def test_any_bytes_have_a_type_that_may_be_shown_or_none(head: bytes) -> None:
    found = recognised(head)
    assert found is None or found.kinds
    assert sniff(head) in {None, *SUFFIXES}
