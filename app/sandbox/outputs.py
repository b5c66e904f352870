"""What a job makes: which files, how large and long, and in which form the result names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from app.sandbox.scenarios import Script

_SUFFIXES = {"video": "mp4", "image": "png", "audio": "wav"}
_NO_FILES: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "null": {"output": None},
    "empty": {"output": {}},
    "blank": {},
}
_RESOLUTIONS = {"0.5k": 512, "1k": 1024, "2k": 1080, "4k": 1080}
_LONGEST = 15.0
_NUMBERS = ("num_images", "num_videos", "num_outputs", "max_images")
_MOST = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """`ratio` is width to height; None follows the first frame."""

    short_side: int
    ratio: Fraction | None
    seconds: float

    def size(self, *, frame: tuple[int, int]) -> tuple[int, int]:
        """Return even numbers of pixels, as H.264 with 4:2:0 chroma needs them."""
        ratio = self.ratio or Fraction(*frame).limit_denominator(100)
        ratio = min(max(ratio, Fraction(2, 5)), Fraction(5, 2))
        width = self.short_side * max(ratio, Fraction(1))
        height = self.short_side / min(ratio, Fraction(1))
        return round(width / 2) * 2, round(height / 2) * 2


def files(kind: str, script: Script, given: Mapping[str, Any]) -> list[str]:
    """Name the files of a success: as many as the input asks for, none if the result has no URL.

    A plural form has at least two.
    """
    form = script.text("output", kind)
    if form in _NO_FILES:
        return []
    suffix = _SUFFIXES.get(form.removesuffix("s"), _SUFFIXES.get(kind, "mp4"))
    least = 2 if form.endswith("s") else 1
    return [f"{n}.{suffix}" for n in range(max(least, _number(given)))]


def output_part(kind: str, script: Script, urls: list[str]) -> dict[str, Any]:
    """Build the part of the result that carries the output."""
    form = script.text("output", kind)
    if form == "blank":
        return {"output": {kind: ""}}
    if form in _NO_FILES:
        return dict(_NO_FILES[form])
    if form in {"string", "list"}:
        return {"output": urls[0] if form == "string" else urls}
    if len(urls) == 1:
        return {"output": {form: urls[0]}}
    return {"output": {form if form.endswith("s") else f"{form}s": urls}}


def shape_of(given: Mapping[str, Any]) -> Shape:
    return Shape(
        short_side=_short_side(given.get("resolution")),
        ratio=_ratio(given.get("ratio") or given.get("aspect_ratio")),
        seconds=min(max(seconds_of(given), 1.0), _LONGEST),
    )


def seconds_of(given: Mapping[str, Any]) -> float:
    """Read the requested duration, a number or a numeric string; 5 without one."""
    try:
        return float(given.get("duration") or 5)
    except (TypeError, ValueError):
        return 5.0


def _number(given: Mapping[str, Any]) -> int:
    asked = next((given[name] for name in _NUMBERS if name in given), 1)
    return min(asked, _MOST) if isinstance(asked, int) else 1


def _short_side(asked: Any) -> int:
    word = str(asked or "480p").lower()
    number = word.removesuffix("p")
    pixels = _RESOLUTIONS.get(word) or (int(number) if number.isdecimal() else 480)
    return min(max(pixels, 240), 1080)


def _ratio(asked: Any) -> Fraction | None:
    width, _, height = str(asked).partition(":")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        return None
    return Fraction(int(width), int(height))
