"""How long jobs take: counts on a logarithmic scale, and the survival curve that they give."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

_FIRST_EDGE = 0.5
_STEP = 1.08  # a bucket is 8% wide: finer than any decision that depends on it
_BUCKETS = 160  # up to more than a day

EDGES: Sequence[float] = (0.0, *(_FIRST_EDGE * _STEP**n for n in range(_BUCKETS - 1)))
"""Where each bucket begins, in seconds; the last one has no end."""

_HALF_LIFE = timedelta(days=7)
_LANDMARK = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_DOUBLINGS = 900  # until 2043; thereafter nothing fades, but no float overflows either

_RESOLUTIONS = frozenset(
    {"360p", "480p", "512p", "540p", "576p", "720p", "768p", "1080p", "1440p", "2160p", "2k", "4k"}
)
_EXACT_SECONDS = 60


class Phase(StrEnum):
    QUEUE = "queue"  # from the submit until upstream works on the job
    RUN = "run"  # from there to its end


class Kind(NamedTuple):
    """What durations are counted by; time in the queue is counted by model only."""

    phase: Phase
    model: str
    input_class: str

    @classmethod
    def of(cls, phase: Phase, model: str, input_class: str) -> "Kind":
        return cls(phase, model, input_class if phase is Phase.RUN else "")


@dataclass(frozen=True, slots=True)
class Observation:
    kind: Kind
    seconds: float


Counts = Mapping[int, float]
"""The weight in each bucket."""


def input_class(given: Mapping[str, Any], output_seconds: Decimal | None) -> str:
    """Name a group of inputs that take about equally long; there are few such names."""
    words = []
    if output_seconds is not None:
        seconds = math.ceil(output_seconds)
        if seconds > _EXACT_SECONDS:
            seconds = 2 ** math.ceil(math.log2(min(seconds, 2**16)))
        words.append(f"{seconds}s")
    resolution = given.get("resolution")
    if isinstance(resolution, str) and resolution.lower() in _RESOLUTIONS:
        words.append(resolution.lower())
    return " ".join(words)


def bucket_of(seconds: float) -> int:
    return max(0, bisect_right(EDGES, seconds) - 1)


def weight_at(at: datetime) -> float:
    """Return the weight of what is seen now; it doubles weekly, so old counts fade without writes.

    Forward decay: Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay: A Practical Time Decay
    Model for Streaming Systems" (2009). Sums of such weights may be added up in any order.
    """
    doublings = (at - _LANDMARK) / _HALF_LIFE
    return math.exp2(min(max(doublings, -_MOST_DOUBLINGS), _MOST_DOUBLINGS))


class Rising:
    """A continuous function that rises linearly within each bucket, in the last one for ever."""

    def __init__(self, slopes: Sequence[float]) -> None:
        spans = (end - start for start, end in pairwise(EDGES))
        self._slopes = slopes
        rises = (slope * span for slope, span in zip(slopes, spans, strict=False))
        self._heights = list(accumulate(rises, initial=0.0))

    def at(self, x: float) -> float:
        n = bisect_right(EDGES, x) - 1
        return self._heights[n] + self._slopes[n] * (x - EDGES[n])

    def reaches(self, height: float) -> float:
        """Return where it reaches this height."""
        n = bisect_right(self._heights, height) - 1
        return EDGES[n] + (height - self._heights[n]) / self._slopes[n]


class Curve:
    """The chance of lasting longer than a given time, exponential within each bucket."""

    def __init__(self, masses: Sequence[float]) -> None:
        """`masses` are the buckets' shares; all must be positive, since nothing is impossible."""
        beyond = list(accumulate(reversed(masses)))[::-1]  # from the tail: no differences of sums
        self.masses = [mass / beyond[0] for mass in masses]
        falls = [math.log(here / after) for here, after in pairwise(beyond)]
        self.hazards = [
            fall / (end - start) for fall, (start, end) in zip(falls, pairwise(EDGES), strict=True)
        ]
        # Half of what has outlasted every bucket takes as long again.
        self.hazards.append(math.log(2) / EDGES[-1])
        self._hazard = Rising(self.hazards)
        self.median = self.remaining(0)

    def survival(self, seconds: float) -> float:
        return math.exp(-self._hazard.at(seconds))

    def remaining(self, elapsed: float) -> float:
        """Return in how many seconds half of those that have lasted for `elapsed` will have ended.

        The median: a few that hang for hours would make the mean useless.
        """
        return self._hazard.reaches(self._hazard.at(elapsed) + math.log(2)) - elapsed


def learned(counts: Counts, *, before: Curve, worth: float) -> Curve:
    """Blend what was seen with the prior belief `before`, worth as many observations."""
    seen = math.fsum(counts.values())
    if seen <= 0:
        return before
    smooth = _smoothed(counts, seen)
    return Curve(
        [worth * mass + weight for mass, weight in zip(before.masses, smooth, strict=True)]
    )


def _smoothed(counts: Counts, seen: float) -> list[float]:
    """Spread each bucket over its neighbours, wider where fewer were seen (Silverman's rule)."""
    spread = max(0.3 * max(seen, 1.0) ** -0.2 / math.log(_STEP), 0.5)
    reach = math.ceil(3 * spread)
    bell = [math.exp(-0.5 * (n / spread) ** 2) for n in range(-reach, reach + 1)]
    whole = math.fsum(bell)
    smooth = [0.0] * _BUCKETS
    for bucket, weight in counts.items():
        for offset, share in enumerate(bell, start=bucket - reach):
            smooth[min(max(offset, 0), _BUCKETS - 1)] += weight * share / whole
    return smooth


def _log_logistic(median: float, shape: float) -> Curve:
    """Return a curve that commits to no scale: its tail falls as a power."""
    survivals = [1 / (1 + (edge / median) ** shape) for edge in EDGES]
    return Curve([here - after for here, after in pairwise(survivals)] + [survivals[-1]])


UNSEEN: Mapping[Phase, Curve] = {
    Phase.QUEUE: _log_logistic(median=5, shape=1.5),
    Phase.RUN: _log_logistic(median=45, shape=2),
}
"""What is believed of a model before any of its jobs was seen."""
