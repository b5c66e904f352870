"""What is aimed at, as ratios within one run, and whether a run got there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench import poller, streams
from bench.load import Figures

LITELLM, BARE = "LiteLLM", "bare FastAPI"

Measured = Mapping[tuple[str, int], Figures]
"""By name and number of connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`measured` by the worse of the databases; None where there was nothing to compare with."""

    number: int
    about: str
    measured: float | None
    shown: str = "{:.2f}"
    better: Literal["more", "less"]
    must: float
    goal: float

    def row(self) -> str:
        sign = "≥" if self.better == "more" else "≤"
        measured = "-" if self.measured is None else self.shown.format(self.measured)
        return (
            f"{self.number} | {self.about} | {measured} |"
            f" {sign} {self.must:g} | {sign} {self.goal:g} | {self._verdict()}"
        )

    def _verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        if self._reaches(self.goal):
            return "goal met"
        return "met" if self._reaches(self.must) else "**not met**"

    def _reaches(self, bound: float) -> bool:
        assert self.measured is not None
        return self.measured >= bound if self.better == "more" else self.measured <= bound


def targets(
    submits: Measured,
    reads: Measured,
    *,
    per_accept: Mapping[tuple[str, int], float],
    whole: Mapping[str, tuple[float, float]],
    polls: Mapping[str, Sequence[poller.Figures]],
    held: streams.Figures,
    memory: Mapping[str, int],
) -> Sequence[Target]:
    ours = list(whole)

    def beside(peer: str) -> str | None:
        return next((name for name, _ in submits if name.startswith(peer)), None)

    litellm, bare = beside(LITELLM), beside(BARE)

    def speeds(peer: str | None) -> float | None:
        return peer and min(
            submits[name, c].per_second / submits[peer, c].per_second
            for name in ours
            for c in (16, 64)
        )

    rows = [row for of_one in polls.values() for row in of_one]
    return [
        Target(
            number=1,
            about="accepts per second at 16 and 64 connections / LiteLLM pass-through",
            measured=speeds(litellm),
            better="more",
            must=8,
            goal=16,
        ),
        Target(
            number=2,
            about="the same / bare FastAPI + httpx pass-through",
            measured=speeds(bare),
            better="more",
            must=2.5,
            goal=4.5,
        ),
        Target(
            number=3,
            about="whole jobs per second / LiteLLM pass-through requests",
            measured=litellm
            and min(speed for speed, _ in whole.values()) / submits[litellm, 16].per_second,
            better="more",
            must=2,
            goal=5,
        ),
        Target(
            number=4,
            about="accept p50 at 1 connection / LiteLLM's",
            measured=litellm
            and max(submits[name, 1].p50_ms for name in ours) / submits[litellm, 1].p50_ms,
            better="less",
            must=0.5,
            goal=0.2,
        ),
        Target(
            number=5,
            about="accept p99 / p50 at 64 connections",
            measured=max(submits[name, 64].p99_ms / submits[name, 64].p50_ms for name in ours),
            better="less",
            must=4,
            goal=2.5,
        ),
        Target(
            number=6,
            about="reads per second at 16 connections / bare FastAPI route",
            measured=bare
            and min(reads[name, 16].per_second for name in ours) / reads[bare, 16].per_second,
            better="more",
            must=0.3,
            goal=0.6,
        ),
        Target(
            number=7,
            about="CPU per poll / CPU of a bare GET with the same client",
            measured=max(row.cpu_us / row.get_us for row in rows),
            better="less",
            must=1.5,
            goal=1.2,
        ),
        Target(
            number=8,
            about="polls per second on one core",
            measured=min(row.polls for row in rows),
            shown="{:.0f}",
            better="more",
            must=2000,
            goal=8000,
        ),
        Target(
            number=9,
            about="database statements per poll",
            measured=max(row.statements for row in rows),
            shown="{:.4f}",
            better="less",
            must=0.05,
            goal=0.005,
        ),
        Target(
            number=9,
            about="database statements per accept at 64 connections",
            measured=max(per_accept[name, 64] for name in ours),
            better="less",
            must=8,
            goal=0.5,
        ),
        Target(
            number=10,
            about="CPU of a poll with the most jobs in flight / with a tenth of them",
            measured=max(of_one[-1].cpu_us / of_one[0].cpu_us for of_one in polls.values()),
            better="less",
            must=1.3,
            goal=1.1,
        ),
        Target(
            number=11,
            about="streams opened on one worker",
            measured=held.streams,
            shown="{:.0f}",
            better="more",
            must=5000,
            goal=20_000,
        ),
        Target(
            number=11,
            about="kB of a stream",
            measured=held.kb_each,
            shown="{:.1f}",
            better="less",
            must=50,
            goal=12,
        ),
        Target(
            number=12,
            about="resident memory at rest / LiteLLM's",
            measured=litellm and max(memory[name] for name in ours) / memory[litellm],
            better="less",
            must=0.35,
            goal=0.2,
        ),
    ]
