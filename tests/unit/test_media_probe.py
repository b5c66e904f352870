"""What a file's bytes tell: its format, its width and height, and nothing that costs much."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.catalogue.media import MediaCheck, MediaRule
from app.catalogue.service import Catalogue
from app.core.media_types import Format, Kind
from app.media.facts import Facts, flaws
from app.media.probe import Dimensions, MediaFile
from app.media.sources import DataUri
from tests.support.gateway import SEEDANCE
from tests.support.pictures import avif, data_uri, jpeg, png, tiff

FTYP = b"\0\0\0\x20ftyp"
IMAGE = Format("PNG", frozenset({"image"}))


class Bytes:
    """A source that gives pieces as long as it likes, and knows its size or not."""

    def __init__(self, content: bytes, *, piece: int = 4096, told: bool = True) -> None:
        self._content = content
        self._piece = piece
        self._told = told
        self.loads = 0
        self.loaded = 0

    @property
    def size(self) -> int | None:
        return len(self._content) if self._told else None

    async def load(self, offset: int) -> bytes | None:
        self.loads += 1
        piece = self._content[offset : offset + self._piece]
        self._piece *= 2
        self.loaded += len(piece)
        return piece


@pytest.mark.parametrize(
    ("format_", "named"),
    [
        *(("PNG", "PNG"), ("JPEG", "JPEG"), ("WEBP", "WebP"), ("GIF", "GIF"), ("BMP", "BMP")),
        *(("TIFF", "TIFF"), ("AVIF", "AVIF"), ("JPEG2000", "JPEG 2000")),
    ],
)
async def test_images_are_measured_from_their_first_bytes(format_: str, named: str) -> None:
    written = io.BytesIO()
    Image.effect_noise((700, 500), 80).convert("RGB").save(written, format_)
    source = Bytes(written.getvalue(), told=False)
    file = MediaFile(source)
    found = await file.format()
    assert found is not None
    assert (found.name, found.kinds) == (named, {"image"})
    assert await file.dimensions() == Dimensions(700, 500)
    assert source.loaded <= (4096 if format_ not in ("TIFF", "BMP") else len(written.getvalue()))
    uri = MediaFile(DataUri(data_uri(written.getvalue())))
    assert await uri.dimensions() == Dimensions(700, 500)


@pytest.mark.parametrize("size", range(3000, 3009))
async def test_data_uri_tells_its_size_and_any_part(size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    source = DataUri(data_uri(content))
    assert source.size == size
    for offset in (0, 1, 2, 3, 1000, size - 1, size):
        assert await source.load(offset) == content[offset : offset + 49152]


async def test_size_far_into_a_file_is_found_by_reading_there() -> None:
    for content in (
        jpeg(800, 600, before=300_000),
        tiff(800, 600, before=500_000),
        avif(800, 600, listed=500, apart=100_000, times=4),
    ):
        source = Bytes(content)
        assert await MediaFile(source).dimensions() == Dimensions(800, 600)
        assert source.loads < 10
    assert await MediaFile(Bytes(jpeg(800, 600, before=3_000_000))).dimensions() == "too far"


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", png(10, 10)[:20], b"GIF89a"),
        *(png(0, 10), png(10, 0)),
        *(FTYP + b"avif", b"RIFF\0\0\0\0WEBPVP9 ", b"BM", b"II*\0\xff\xff\xff\x7f"),
        b"\xff\xd8" + b"\xff" * 900_000,
        b"\xff\xd8\xff\xe0\0\x02" + b"\0" * 900_000,
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 200_000,
        FTYP + b"avif" + bytes(20) + b"\0\0\0\x08free" * 100_000,
        FTYP + b"avif" + bytes(20) + b"\xff\xff\xff\xffmeta" * 10,
        avif(800, 600, listed=200_000),
        avif(800, 600, listed=10_000, apart=40_000, times=8),
    ],
)
async def test_broken_images_are_given_up_at_a_small_price(content: bytes, *, told: bool) -> None:
    source = Bytes(content, told=told)
    assert await MediaFile(source).dimensions() in ("broken", "too far")
    assert source.loads < 15


@given(
    st.sampled_from(
        [
            *(b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"),
            *(b"II*\0", b"MM\0*", b"II+\0\x08\0", FTYP + b"avif", FTYP + b"heic\0\0\0\0mif1"),
            *(b"RIFF\x24\0\0\0WEBPVP8 ", b"\0\0\0\x0cjP  \r\n\x87\n", FTYP + b"isom"),
        ]
    ),
    st.binary(max_size=3000),
    st.integers(0, 400),
)
async def test_any_bytes_are_judged_without_an_exception(
    start: bytes, rest: bytes, repeats: int
) -> None:
    source = Bytes(start + rest * repeats, told=repeats % 2 == 0)
    file = MediaFile(source)
    found = await file.format()
    assert found is None or found.kinds <= {"image", "video", "audio"}
    dimensions = await file.dimensions()
    if isinstance(dimensions, Dimensions):
        assert dimensions.width > 0
        assert dimensions.height > 0
    assert source.loads < 20
    assert source.loaded < 3 * 2**20


def seed_check() -> MediaCheck:
    model = Catalogue.bundled().get(SEEDANCE)
    given_: dict[str, Any] = {"prompt": "x", "first_frame_image_url": "https://example.com/a.png"}
    (check,) = model.check(given_).media
    return check


WIDE = "The uploaded image width and height must not exceed 6000 pixels."
SMALL = "The uploaded image width and height must not be less than 300 pixels."
RATIO = "The aspect ratio range should be between 0.4 and 2.5."
HEAVY = "File size must be less than 30 MB."


@pytest.mark.parametrize(
    ("width", "height", "size", "messages"),
    [
        *((6000, 6000, 1, []), (300, 300, 1, []), (6000, 2400, 1, []), (300, 750, 1, [])),
        *((2400, 6000, 1, []), (750, 300, 1, []), (400, 1000, 1, []), (402, 1005, 1, [])),
        *((1000, 1000, 30 * 10**6, []), (1000, 1000, 30 * 2**20, [])),
        *((6001, 4000, 1, [WIDE]), (4000, 6001, 1, [WIDE]), (299, 300, 1, [SMALL])),
        *((300, 299, 1, [SMALL]), (399, 1000, 1, [RATIO]), (2501, 1000, 1, [RATIO])),
        (1000, 1000, 30 * 2**20 + 1, [HEAVY]),
        (7000, 7000, 10**9, [WIDE, HEAVY]),
        (10, 7000, 1, [WIDE, SMALL, RATIO]),
    ],
)
def test_seeds_rules_refuse_with_its_messages_and_let_the_edges_through(
    width: int, height: int, size: int, messages: list[str]
) -> None:
    found = flaws(
        seed_check(),
        Facts(format=IMAGE, dimensions=Dimensions(width, height), size=size),
        lenient=False,
    )
    assert {error.pointer for error in found} <= {"/input/first_frame_image_url"}
    assert [error.detail.split(" `first_frame")[0] for error in found] == messages
    for error in found:
        assert f"{width} x {height} pixels" in error.detail or f"{size} bytes" in error.detail


def test_what_cannot_be_told_is_refused_or_let_through_as_the_mode_says() -> None:
    for facts, code in (
        (Facts(format=IMAGE, dimensions="too far", size=1), "media_unreadable"),
        (Facts(format=IMAGE, dimensions=Dimensions(500, 500), size="unknown"), "file_size_mb"),
    ):
        assert [error.code for error in flaws(seed_check(), facts, lenient=False)] == [code]
        assert flaws(seed_check(), facts, lenient=True) == []


def test_rule_that_nobody_here_knows_is_runcomfys_own() -> None:
    rules = (MediaRule("duration_seconds>", 3, "Short."), MediaRule("width_pixels~", 3, "No."))
    check = MediaCheck("/input/images/0", "https://example.com/", "image", rules)
    assert flaws(check, Facts(format=IMAGE, dimensions=Dimensions(9, 9)), lenient=False) == []
    (error,) = flaws(check, Facts(format=Format("MP4", frozenset({"video"}))), lenient=False)
    assert (error.code, error.pointer) == ("media_type", "/input/images/0")
    assert error.detail.startswith("`images[0]` must be an image")


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_field_for_any_media_takes_each_kind(kind: Kind) -> None:
    check = MediaCheck("/input/file_url", "https://example.com/", "media", ())
    assert flaws(check, Facts(format=Format("X", frozenset({kind}))), lenient=False) == []


def test_file_of_no_known_format_is_called_none_of_what_the_field_takes() -> None:
    for kind in ("image", "media"):
        check = MediaCheck("/input/file_url", "https://example.com/", kind, ())
        (error,) = flaws(check, Facts(format=None), lenient=False)
        assert error.detail.endswith("; by its first bytes the file is none.")
