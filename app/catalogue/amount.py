"""How much output an input asks for, since prices and limits count it."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

# In the order they are tried. `video_length` is missing, as it counts frames as often as seconds.
_UNITS_PER_SECOND = {
    "duration": 1,
    "duration_seconds": 1,
    "duration_s": 1,
    "seconds": 1,
    "video_duration": 1,
    "audio_duration": 1,
    "duration_ms": 1000,
    "music_length_ms": 1000,
}
_NUMBERS = ("num_images", "max_images", "num_videos", "num_outputs")
_NUMBER = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(?:s|sec|seconds)?")
_LONGEST = Decimal(24 * 60 * 60)
_MOST = 1000


def outputs(settings: Mapping[str, Any]) -> int | None:
    """Read how many outputs an input asks for, or may get at most; one if no field says.

    `settings` has its defaults filled in. A field that is present without a number from 1 to 1000
    makes it unknown.
    """
    for name in _NUMBERS:
        if name in settings:
            amount = _amount(settings[name])
            if amount is None or not 1 <= amount <= _MOST or amount % 1:
                return None
            return int(amount)
    return 1


def output_seconds(settings: Mapping[str, Any], *, output_kind: str) -> Decimal | None:
    """Read the seconds of all outputs from the first field that is present; None if none is.

    "auto", zero or less, and more than a day count as unknown. An image has no length, so a model
    that makes images and has no such field asks for zero.
    """
    number = outputs(settings)
    for name, units in _UNITS_PER_SECOND.items():
        if name in settings:
            amount = _amount(settings[name])
            if amount is None or number is None:
                return None
            seconds = amount / units
            return seconds * number if 0 < seconds <= _LONGEST else None
    return Decimal(0) if output_kind == "image" else None


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Decimal(str(value))
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return Decimal(found[1]) if found else None
