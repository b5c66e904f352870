"""Ranges of bytes, as text and as what they are of a file."""

import pytest

from app.core.ranges import ByteRange

FAR = "9" * 18


@pytest.mark.parametrize(
    ("asked", "span", "told"),
    [
        ("bytes=0-9", (0, 10), "bytes=0-9"),
        ("BYTES = 007 - 9 ", (7, 10), "bytes=7-9"),
        ("bytes=90-", (90, 100), "bytes=90-"),
        ("bytes=-10", (90, 100), "bytes=-10"),
        ("bytes=-101", (0, 100), "bytes=-101"),
        ("bytes=99-100", (99, 100), "bytes=99-100"),
        ("bytes=100-", None, "bytes=100-"),
        ("bytes=-0", None, "bytes=-0"),
        ("bytes=0-" + "9" * 20, (0, 100), f"bytes=0-{FAR}"),
        ("bytes=-" + "9" * 9000, (0, 100), f"bytes=-{FAR}"),
        ("bytes=" + "9" * 20 + "-", None, f"bytes={FAR}-"),
        ("bytes=" + "0" * 9000 + "1-2", (1, 3), "bytes=1-2"),
    ],
)
def test_a_range_is_clamped_to_the_file_and_told_as_any_server_reads_it(
    asked: str, span: tuple[int, int] | None, told: str
) -> None:
    read = ByteRange.parse(asked)
    assert read is not None
    assert (read.within(100), str(read)) == (span, told)


@pytest.mark.parametrize(
    "asked",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,5-6", "bytes=1-2-3"),
        *("items=0-1", "bytes=+1-2", "bytes=x-", "bytes=\u0660-1", "bytes=0-1\n"),
    ],
)
def test_what_is_not_one_range_means_the_whole(asked: str) -> None:
    assert ByteRange.parse(asked) is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("asked", ["bytes={}x", "bytes=0{}x", "bytes=-{}x", "bytes=0-0{}x"])
def test_spaces_without_end_hold_up_nobody(asked: str) -> None:
    """They are read on the event loop, where all others wait for it."""
    assert ByteRange.parse(asked.format(" " * 2**20)) is None
