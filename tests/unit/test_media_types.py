"""A file's first bytes decide what it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.media_types import SUFFIXES, sniff, suffix_of

FTYP = b"\0\0\0\x20ftyp"


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
        (b"GIF89a\1\0\1\0", "image/gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image/bmp"),
        (b"II*\0\x08\0\0\0", "image/tiff"),
        (b"MM\0*\0\0\0\x08", "image/tiff"),
        (FTYP + b"heic\0\0\0\0mif1heic", "image/heic"),
        (FTYP + b"avif\0\0\0\0mif1miaf", "image/avif"),
        (FTYP + b"mif1\0\0\0\0mif1avif", "image/avif"),
        (FTYP + b"hevx\0\0\0\0mif1hevx", "image/heic"),
        (FTYP + b"isom\0\0\2\0isomiso2avc1mp41", "video/mp4"),
        (FTYP + b"qt  \0\0\2\0qt  ", "video/quicktime"),
        (FTYP + b"M4A \0\0\0\0", "audio/mp4"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webm", None),
        (b"\x1a\x45\xdf\xa3\xa3B\x86\x81\1B\x82\x88matroska", "video/x-matroska"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        (b"ID3\4\0\0\0\0\0\0", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"OggS\0\2", "audio/ogg"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
    ],
)
def test_what_models_take_is_known(head: bytes, media_type: str | None) -> None:
    assert sniff(head) == (media_type or "video/webm")
    assert suffix_of(media_type or "video/webm") != ".bin"


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"\0", b"<!doctype html><script>", b"<svg xmlns='http://www.w3.org/2000/svg'>"),
        *(b"%PDF-1.7", b"PK\3\4", b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\n", b'{"a": 1}'),
        *(b"RIFF\x24\0\0\0AVI LIST", b"BM is a text", b"ftyp", b"\0\0\0\4ftypisom", b"\xff\xff"),
        *(b"\xff\xd8", b"GIF88a", b"\x89PNG\n\x1a\n", b"\xef\xbb\xbf<html>", b"\xff\xfb\xff\xff"),
    ],
)
def test_nothing_else_is(head: bytes) -> None:
    assert sniff(head) is None


@given(st.binary(max_size=80))
def test_any_bytes_have_a_type_that_may_be_shown_or_none(head: bytes) -> None:
    assert sniff(head) in {None, *SUFFIXES}
