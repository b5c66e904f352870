"""Who works on the made-up day, under which limits, and what they submit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.demo.receiver import GONE, SLEEPS, TAKES

_SEEDANCE = "bytedance/seedance-1-0/pro/image-to-video"
_MINI = "bytedance/seedance-2.0-mini/text-to-video"
_WAN = "wan-ai/wan-3.0-prime/text-to-video"
_FLUX = "blackforestlabs/flux-3/image"
_MUSIC = "elevenlabs/elevenlabs/music-generation"

GUEST = "maya"

PRICES: Sequence[Mapping[str, Any]] = (
    {"model": _MUSIC, "base_price_usd": "0.015", "price_unit": "second"},
    {
        "model": _SEEDANCE,
        "base_price_usd": "0.14",
        "price_unit": "second",
        "when": {"resolution": "720p"},
    },
)


@dataclass(frozen=True, slots=True)
class Wish:
    """`picture` is the index of one of the user's; None for a model that needs only words."""

    model: str
    input: Mapping[str, Any]
    picture: int | None = None


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    name: str
    plan: str
    key: str
    share: int
    webhook_path: str
    wishes: Sequence[Wish]


def _film(prompt: str, *, seconds: int = 5, picture: int = 0, resolution: str = "480p") -> Wish:
    given = {"prompt": prompt, "duration": seconds, "resolution": resolution}
    return Wish(_SEEDANCE, given, picture=picture)


def _words(model: str, prompt: str, **more: Any) -> Wish:
    return Wish(model, {"prompt": prompt, **more})


PLANS: Sequence[Mapping[str, Any]] = (
    {
        "name": "free",
        "default": True,
        "limits": {"jobs_per_day": {"limit": 8}, "concurrent_jobs": {"limit": 1}},
    },
    {
        "name": "studio",
        "limits": {
            "jobs_per_day": {"limit": 60},
            "spend_usd_per_day": {"limit": "25"},
            "spend_usd_per_month": {"limit": "400"},
            "concurrent_jobs": {"limit": 4},
            "output_seconds_per_day": {"limit": 90, "mode": "shadow"},
        },
    },
    {
        "name": "service",
        "limits": {
            "spend_usd_per_month": {"limit": "2000"},
            "spend_usd_per_day": {"limit": "3", "mode": "shadow"},
            "pending_jobs": {"limit": 500},
        },
    },
)

PEOPLE: Sequence[Person] = (
    Person(
        GUEST,
        "Maya Lindqvist",
        "studio",
        "laptop",
        5,
        SLEEPS,
        (
            _film("golden hour over the hills, the camera drifts slowly forward"),
            _film("mist rises from the valley at dawn", seconds=4, picture=1),
            _film("night falls, the first stars come out", seconds=6, picture=2),
            _film("a slow pan to the left, birds cross the sky", picture=1),
            _words(_MINI, "a paper boat on a quiet river", resolution="480p"),
            _words(_FLUX, "a lighthouse in the style of a woodcut"),
        ),
    ),
    Person(
        "campaigns",
        "Campaign team",
        "studio",
        "ci",
        4,
        TAKES,
        (
            _film("product on a turntable, soft light", seconds=5, picture=2),
            _film("the same, closer, in high resolution", seconds=8, resolution="720p"),
            _words(_WAN, "coffee poured in slow motion", resolution="480p"),
            _words(_MUSIC, "thirty seconds of calm piano", music_length_ms=30000),
            _film("hills, but the sun refuses sandbox:fail", picture=0),
        ),
    ),
    Person(
        "shop",
        "Shop backend",
        "service",
        "production",
        7,
        TAKES,
        (
            _film("a gentle zoom into the picture", seconds=3, picture=0),
            _film("a gentle zoom out of the picture", seconds=3, picture=1),
            _film("parallax to the right", seconds=4, picture=2),
            _words(_FLUX, "a shoe on white, studio light"),
        ),
    ),
    Person(
        "intern",
        "Noor, trying things out",
        "free",
        "try",
        3,
        GONE,
        (
            _words(_FLUX, "a cat wearing a crown"),
            _film("make it move", seconds=2, picture=1),
            _words(_MINI, "something with dragons", resolution="480p", duration=4),
        ),
    ),
)

LOST = _film("whose answer was lost on the way sandbox:lost-answer", seconds=2)
STUCK = _film("a very long take sandbox:queue=5 sandbox:stuck", seconds=12, picture=2)
WAITING = _film("still waiting for its turn sandbox:stuck-in-queue", seconds=5, picture=1)
UNCOPIED = _film("whose file cannot be fetched sandbox:output-503", seconds=4, picture=1)

LEFT: Sequence[tuple[str, Wish]] = (
    (GUEST, STUCK),
    ("campaigns", LOST),
    ("shop", WAITING),
    ("intern", STUCK),
    ("intern", WAITING),
)
"""What is still to be done at the end of the day; the intern's plan runs one at a time."""


@dataclass(frozen=True, slots=True)
class Act:
    """What the operator does during the day; `{key}` in a path is the id of the named user's."""

    method: str
    path: str
    body: Mapping[str, Any]
    key_of: str = ""


ACTS: Mapping[int, Sequence[Act]] = {
    3: (Act("PATCH", "/v1/admin/users/intern", {"limits": {"jobs_per_day": {"limit": 20}}}),),
    9: (
        Act("PUT", "/v1/admin/dispatch", {"paused": True}),
        Act("PUT", "/v1/admin/dispatch", {"paused": False}),
    ),
    13: (Act("POST", "/v1/admin/keys/{key}/rotate", {"overlap_seconds": 86_400}, "shop"),),
    16: (Act("PATCH", "/v1/admin/plans/studio", {"limits": {"concurrent_jobs": {"limit": 6}}}),),
}
"""By sitting, counted from 0."""
