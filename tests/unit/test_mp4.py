"""What a film says of itself is read from its boxes, in few reads, whatever they hold."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.storage.mp4 import Film, film_of, look

FTYP = b"\0\0\0\x10ftypisom\0\0\2\0"


def box(kind: bytes, body: bytes, *, wide: bool = False) -> bytes:
    if wide:
        return b"\0\0\0\1" + kind + (len(body) + 16).to_bytes(8, "big") + body
    return (len(body) + 8).to_bytes(4, "big") + kind + body


def mvhd(units: int, *, scale: int = 1000, version: int = 0) -> bytes:
    width = 8 if version else 4
    times = bytes(2 * width) + scale.to_bytes(4, "big") + units.to_bytes(width, "big")
    return box(b"mvhd", bytes([version, 0, 0, 0]) + times + bytes(80))


def track(handler: bytes, codec: bytes) -> bytes:
    entry = box(codec, bytes(70))
    described = box(b"stsd", bytes(4) + b"\0\0\0\1" + entry)
    media = box(b"hdlr", bytes(8) + handler + bytes(13)) + box(b"minf", box(b"stbl", described))
    return box(b"trak", box(b"tkhd", bytes(84)) + box(b"mdia", media))


MOVIE = mvhd(5042) + track(b"soun", b"mp4a") + track(b"vide", b"avc1")


class Recorded:
    def __init__(self, data: bytes) -> None:
        self.data, self.reads, self.bytes_read = data, 0, 0

    async def __call__(self, start: int, stop: int) -> bytes:
        assert 0 <= start <= len(self.data)
        piece = self.data[start:stop]
        self.reads, self.bytes_read = self.reads + 1, self.bytes_read + len(piece)
        return piece

    async def film(self) -> Film:
        return await look(self, size=len(self.data))


async def test_the_header_is_found_before_and_behind_the_pictures() -> None:
    expected = Film(duration=timedelta(seconds=5.042), codec="avc1")
    pictures = box(b"mdat", bytes(2**22), wide=True)
    for data in (
        FTYP + box(b"moov", MOVIE) + pictures,
        FTYP + pictures + box(b"moov", MOVIE),
        FTYP + box(b"free", b"") + b"\0\0\0\0moov" + MOVIE,
    ):
        file = Recorded(data)
        assert await file.film() == expected
        assert file.bytes_read < 2000


def test_what_is_not_said_is_not_known() -> None:
    assert film_of(b"") == Film()
    assert film_of(mvhd(0)) == Film()
    assert film_of(mvhd(90, scale=0)) == Film()
    assert film_of(mvhd(2**32 - 1, scale=1)) == Film()
    assert film_of(mvhd(10**7, scale=10**6, version=1)).duration == timedelta(seconds=10)
    fragments = box(b"mvex", box(b"mehd", bytes(4) + (3000).to_bytes(4, "big")))
    assert film_of(mvhd(0) + fragments).duration == timedelta(seconds=3)
    assert film_of(track(b"soun", b"mp4a")).codec == "mp4a"
    assert film_of(track(b"vide", b"\0\n<>")).codec is None


async def test_neither_endless_boxes_nor_a_huge_header_are_read_to_the_end() -> None:
    crumbs = Recorded(FTYP + box(b"free", b"") * 10_000 + box(b"moov", MOVIE))
    assert await crumbs.film() == Film()
    assert crumbs.reads <= 64
    huge = Recorded(box(b"moov", box(b"udta", bytes(2**23)) + MOVIE))
    assert await huge.film() == Film()
    assert huge.bytes_read <= 2**22 + 16


@given(
    st.binary(max_size=200),
    st.lists(
        st.tuples(st.integers(0, len(MOVIE) + 24), st.integers(0, 255)), min_size=1, max_size=20
    ),
    st.integers(0, 2**10),
)
async def test_whatever_the_bytes_the_look_ends_and_reads_little(
    junk: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    assert (await Recorded(junk).film()) in (Film(), await Recorded(junk).film())
    data = bytearray(FTYP + box(b"moov", MOVIE))
    for at, byte in edits:
        data[at % len(data)] = byte
    for variant in (bytes(data), bytes(data[:cut]), bytes(data) + junk):
        file = Recorded(variant)
        film = await file.film()
        assert film.duration is None or timedelta() < film.duration <= timedelta(days=30)
        assert film.codec is None or (film.codec.isascii() and len(film.codec) == 4)
        assert file.bytes_read <= 16 * 64 + len(variant)
