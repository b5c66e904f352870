"""The range of bytes that a request may ask for (RFC 9110, 14.1.2)."""

import re
from dataclasses import dataclass
from typing import Self

# Possessive: else two repetitions could share tens of thousands of spaces in as many ways.
_ONE_RANGE = re.compile(
    r"[ \t]*+bytes[ \t]*+=[ \t]*+([0-9]*+)[ \t]*+-[ \t]*+([0-9]*+)[ \t]*+", re.IGNORECASE
)
_FAR = 10**18 - 1  # beyond any file, yet small enough for every server


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`first` is None for the `last` so many bytes, `last` is None for all up to the end."""

    first: int | None
    last: int | None

    @classmethod
    def parse(cls, asked: str) -> Self | None:
        """Read a single range; None for several or anything else, so that all is sent."""
        found = _ONE_RANGE.fullmatch(asked)
        first, last = map(_number, found.groups()) if found else (None, None)
        if first is None and last is None:
            return None
        is_backwards = first is not None and last is not None and last < first
        return None if is_backwards else cls(first, last)

    def within(self, size: int) -> tuple[int, int] | None:
        """Return the offsets of the first byte and after the last, or None if there is no byte."""
        if self.first is None:
            assert self.last is not None
            start, stop = max(size - self.last, 0), size
        else:
            start, stop = self.first, size if self.last is None else min(self.last + 1, size)
        return (start, stop) if start < stop else None

    def __str__(self) -> str:
        first, last = ("" if number is None else number for number in (self.first, self.last))
        return f"bytes={first}-{last}"


def _number(digits: str) -> int | None:
    """Read a number that may have thousands of digits."""
    return min(int(digits.lstrip("0")[:19] or "0"), _FAR) if digits else None
