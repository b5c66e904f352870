"""How much output an input asks for: what it tells, and when it tells nothing."""

from decimal import Decimal
from typing import Any

import pytest

from app.catalogue.amount import output_seconds, outputs
from app.catalogue.service import Catalogue


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"duration": 5}, "5"),
        ({"duration": 5.0}, "5"),
        ({"duration": 2.5}, "2.5"),
        ({"duration": "5"}, "5"),
        ({"duration": "5s"}, "5"),
        ({"duration": "5 s"}, "5"),
        ({"duration": "7.5 seconds"}, "7.5"),
        ({"duration_seconds": 5}, "5"),
        ({"duration_s": 5}, "5"),
        ({"seconds": "8"}, "8"),
        ({"video_duration": 6}, "6"),
        ({"duration_ms": 1500}, "1.5"),
        ({"music_length_ms": 40_000}, "40"),
        ({"duration": 86_400}, "86400"),
        ({"seconds": 3, "duration": 5}, "5"),
    ],
)
def test_duration_is_read_from_numbers_and_numeric_texts(
    settings: dict[str, Any], seconds: str
) -> None:
    assert output_seconds(settings, output_kind="video") == Decimal(seconds)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prompt": "5"},
        {"video_length": 81},
        {"fps": 24},
        {"duration": "auto"},
        {"duration": ""},
        {"duration": "5 minutes"},
        {"duration": "1e3"},
        {"duration": "\u0665"},
        {"duration": True},
        {"duration": None},
        {"duration": [5]},
        {"duration": 0},
        {"duration": -1},
        {"duration": 86_401},
        {"duration": 1e300},
        {"duration": "auto", "seconds": 5},
    ],
)
def test_what_is_no_believable_duration_tells_nothing(settings: dict[str, Any]) -> None:
    assert output_seconds(settings, output_kind="video") is None


def test_image_lasts_no_time() -> None:
    assert output_seconds({}, output_kind="image") == 0
    assert output_seconds({}, output_kind="audio") is None


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({}, 1),
        ({"num_images": 4}, 4),
        ({"num_images": "3"}, 3),
        ({"max_images": 5}, 5),
        ({"num_outputs": 2.0}, 2),
        ({"num_images": 1000}, 1000),
        ({"num_images": 1001}, None),
        ({"num_images": 0}, None),
        ({"num_images": 2.5}, None),
        ({"num_images": "auto"}, None),
        ({"num_images": 1e300}, None),
    ],
)
def test_outputs_are_counted_and_one_if_no_field_tells(
    settings: dict[str, Any], number: int | None
) -> None:
    assert outputs(settings) == number


def test_several_outputs_last_as_long_together() -> None:
    assert output_seconds({"duration": 5, "num_videos": 3}, output_kind="video") == 15
    assert output_seconds({"duration": 5, "num_videos": "auto"}, output_kind="video") is None


@pytest.mark.parametrize(
    ("model_id", "given", "number"),
    [
        ("google/nano-banana-2/text-to-image", {}, 1),
        ("google/nano-banana-2/text-to-image", {"num_images": 4}, 4),
        ("wan-ai/wan-2.7/text-to-image", {"max_images": 5}, 5),
        ("bytedance/seedance-1-0/pro/image-to-video", {}, 1),
    ],
)
def test_bundled_models_tell_how_many_outputs_they_make(
    model_id: str, given: dict[str, Any], number: int
) -> None:
    assert Catalogue.bundled().get(model_id).check(given).outputs == number


@pytest.mark.parametrize(
    ("model_id", "given", "seconds"),
    [
        ("bytedance/seedance-1-0/pro/image-to-video", {}, 5),
        ("bytedance/seedance-1-0/pro/image-to-video", {"duration": 12}, 12),
        ("blackforestlabs/flux-3/text-to-video", {}, None),
        ("blackforestlabs/flux-3/text-to-video", {"duration": "20"}, 20),
        ("lightricks/ltx-2.5/audio-to-video/pro", {}, None),
        ("elevenlabs/elevenlabs/music-generation", {}, 40),
        ("openai/gpt-image-2/edit", {}, 0),
    ],
)
def test_bundled_models_tell_their_seconds_defaults_included(
    model_id: str, given: dict[str, Any], seconds: int | None
) -> None:
    assert Catalogue.bundled().get(model_id).check(given).output_seconds == seconds
