"""What is known about a file, and which of a field's rules it breaks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.catalogue.media import MediaCheck, MediaFault, MediaRule
from app.core.errors import FieldError
from app.core.media_types import Format
from app.media.probe import Dimensions

MEGABYTE = 2**20
"""The larger of the two meanings of MB: RunComfy's is not known, so it has the last word."""

_NOUNS = {
    "image": "an image (such as JPEG, PNG or WebP)",
    "video": "a video (such as MP4, MOV or WebM)",
    "audio": "an audio file (such as MP3, WAV or FLAC)",
    "media": "an image, a video or an audio file",
}
_SIZE = "file_size_mb"
_MEASURES = frozenset({"width_pixels", "height_pixels", "width/height"})
_CODES: Mapping[str, MediaFault] = {
    "width_pixels": "width_pixels",
    "height_pixels": "height_pixels",
    "width/height": "aspect_ratio",
    _SIZE: "file_size_mb",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the rules of a field need to know."""

    dimensions: bool
    size: bool

    @classmethod
    def by(cls, check: MediaCheck) -> "Wanted":
        subjects = {rule.subject for rule in check.rules}
        return cls(dimensions=not subjects.isdisjoint(_MEASURES), size=_SIZE in subjects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`dimensions` and `size` are None where no rule asked; a server may not say the size."""

    format: Format | None
    is_empty: bool = False
    dimensions: Dimensions | Literal["broken", "too far"] | None = None
    size: int | Literal["unknown"] | None = None


def flaws(check: MediaCheck, facts: Facts, *, lenient: bool) -> list[FieldError]:
    """Name each rule that the file breaks; `lenient` ignores what could not be found out."""
    noun = _NOUNS[check.kind]
    if facts.is_empty:
        return [check.fault("media_type", f"must be {noun}, but the file is empty")]
    if facts.format is None or not _suits(facts.format, check):
        what = "none" if facts.format is None else facts.format.name
        flaw = f"must be {noun}; by its first bytes the file is {what}"
        return [check.fault("media_type", flaw)]
    if not lenient and isinstance(facts.dimensions, str):
        how = "is damaged" if facts.dimensions == "broken" else "has them too far from its start"
        flaw = (
            f"must be an image whose width and height can be read; this {facts.format.name} {how}"
        )
        return [check.fault("media_unreadable", flaw)]
    broken: dict[str, FieldError] = {}
    for rule in check.rules:
        found = _breach(rule, facts, lenient=lenient)
        if found and rule.message not in broken:  # one message often serves for width and height
            broken[rule.message] = FieldError(
                pointer=check.pointer,
                code=_CODES[rule.subject],
                detail=f"{rule.message} {check.label} {found}.",
            )
    return list(broken.values())


def _suits(found: Format, check: MediaCheck) -> bool:
    return check.kind == "media" or check.kind in found.kinds


def _breach(rule: MediaRule, facts: Facts, *, lenient: bool) -> str | None:
    """Say what the file is if that breaks `rule`; unknown rules are left to RunComfy."""
    if rule.subject == _SIZE:
        return _size_breach(rule, facts, lenient=lenient)
    if rule.subject not in _MEASURES or not isinstance(facts.dimensions, Dimensions):
        return None
    width, height = facts.dimensions.width, facts.dimensions.height
    value = {"width_pixels": width, "height_pixels": height}.get(rule.subject, width / height)
    if _holds(value, rule.comparison, rule.value):
        return None
    return f"is {width} x {height} pixels"


def _size_breach(rule: MediaRule, facts: Facts, *, lenient: bool) -> str | None:
    if facts.size == "unknown":
        return None if lenient else "is large, and its server does not say how large"
    if facts.size is None or _holds(facts.size, rule.comparison, rule.value * MEGABYTE):
        return None
    return f"has {facts.size} bytes"


def _holds(value: float, comparison: str, bound: float) -> bool:
    """Compare, and let the limit itself pass, on which RunComfy's words and rules disagree."""
    match comparison:
        case "<":
            return value <= bound
        case ">":
            return value >= bound
        case _:
            return True
