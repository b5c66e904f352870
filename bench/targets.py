"""The targets, as ratios within one run, and whether a run met them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median
from typing import Any, Literal

from bench import poller, streams
from bench.load import Figures

LITELLM, BARE = "LiteLLM", "bare FastAPI"

Measured = Mapping[tuple[str, int], Sequence[Figures]]
"""By name and number of connections; one for each round, in which all took turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Whole jobs in one process; for a peer, its requests at 16 connections in the same round."""

    per_second: float
    cpu_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`measured` on each database, or once; empty where there was nothing to compare with."""

    number: int
    about: str
    measured: Mapping[str, float]
    shown: str = "{:.2f}"
    better: Literal["more", "less"]
    must: float
    goal: float

    def row(self) -> str:
        sign = "≥" if self.better == "more" else "≤"
        measured = " / ".join(map(self.shown.format, self.measured.values())) or "-"
        return (
            f"{self.number} | {self.about} | {measured} |"
            f" {sign} {self.must:g} | {sign} {self.goal:g} | {self._verdict()}"
        )

    def _verdict(self) -> str:
        if not self.measured:
            return "not measured"
        for bound, word in ((self.goal, "goal met"), (self.must, "met")):
            if len(self._reach(bound)) == len(self.measured):
                return word
        where = [name.rpartition(" ")[2] for name in self._reach(self.must)]
        return f"**met on {where[0]} alone**" if where else "**not met**"

    def _reach(self, bound: float) -> Sequence[str]:
        return [
            name
            for name, value in self.measured.items()
            if (value >= bound if self.better == "more" else value <= bound)
        ]


def targets(
    submits: Measured,
    reads: Measured,
    *,
    per_accept: Mapping[tuple[str, int], float],
    whole: Mapping[str, Sequence[Whole]],
    polls: Mapping[str, Sequence[poller.Figures]],
    held: streams.Figures,
    memory: Mapping[str, int],
) -> Sequence[Target]:
    ours = [name for name in whole if not name.startswith(LITELLM)]

    def beside(peer: str) -> str | None:
        return next((name for name, _ in submits if name.startswith(peer)), None)

    litellm, bare = beside(LITELLM), beside(BARE)

    def each(measure: Callable[[str, str], float], peer: str | None) -> Mapping[str, float]:
        return {name: measure(name, peer) for name in ours} if peer else {}

    def accepting(name: str, peer: str) -> float:
        return min(_ratio(submits[name, c], submits[peer, c], "per_second") for c in (16, 64))

    return [
        Target(
            number=1,
            about="accepts per second at 16 and 64 connections / LiteLLM pass-through",
            measured=each(accepting, litellm),
            better="more",
            must=8,
            goal=16,
        ),
        Target(
            number=2,
            about="the same / bare FastAPI + httpx pass-through",
            measured=each(accepting, bare),
            better="more",
            must=2.5,
            goal=4.5,
        ),
        Target(
            number=3,
            about="whole jobs per second / LiteLLM pass-through requests",
            measured=each(
                lambda name, peer: _ratio(whole[name], whole[peer], "per_second"), litellm
            ),
            better="more",
            must=2,
            goal=5,
        ),
        Target(
            number=4,
            about="accept p50 at 1 connection / LiteLLM's",
            measured=each(
                lambda name, peer: _ratio(submits[name, 1], submits[peer, 1], "p50_ms"), litellm
            ),
            better="less",
            must=0.5,
            goal=0.2,
        ),
        Target(
            number=5,
            about="accept p99 / p50 at 64 connections",
            measured={
                name: median(round_.p99_ms / round_.p50_ms for round_ in submits[name, 64])
                for name in ours
            },
            better="less",
            must=4,
            goal=2.5,
        ),
        Target(
            number=6,
            about="reads per second at 16 connections / bare FastAPI route",
            measured=each(
                lambda name, peer: _ratio(reads[name, 16], reads[peer, 16], "per_second"), bare
            ),
            better="more",
            must=0.3,
            goal=0.6,
        ),
        Target(
            number=7,
            about="CPU per poll / CPU of a bare GET with the same client",
            measured={name: max(row.per_get for row in rows) for name, rows in polls.items()},
            better="less",
            must=1.5,
            goal=1.2,
        ),
        Target(
            number=8,
            about="polls per second on one core, with the most jobs in flight",
            measured={name: rows[-1].polls for name, rows in polls.items()},
            shown="{:.0f}",
            better="more",
            must=2000,
            goal=8000,
        ),
        Target(
            number=9,
            about="database statements per poll",
            measured={name: max(row.statements for row in rows) for name, rows in polls.items()},
            shown="{:.4f}",
            better="less",
            must=0.05,
            goal=0.005,
        ),
        Target(
            number=9,
            about="database statements per accept at 64 connections",
            measured={name: per_accept[name, 64] for name in ours},
            better="less",
            must=8,
            goal=0.5,
        ),
        Target(
            number=10,
            about="CPU of a poll with the most jobs in flight / with a tenth of them",
            measured={name: rows[-1].cpu_us / rows[0].cpu_us for name, rows in polls.items()},
            better="less",
            must=1.3,
            goal=1.1,
        ),
        Target(
            number=11,
            about="streams opened on one worker",
            measured={"streams": held.streams},
            shown="{:.0f}",
            better="more",
            must=5000,
            goal=20_000,
        ),
        Target(
            number=11,
            about="kB of a stream",
            measured={"streams": held.kb_each},
            shown="{:.1f}",
            better="less",
            must=50,
            goal=12,
        ),
        Target(
            number=12,
            about="resident memory at rest / LiteLLM's",
            measured=each(lambda name, peer: memory[name] / memory[peer], litellm),
            better="less",
            must=0.35,
            goal=0.2,
        ),
    ]


def _ratio(
    ours: Sequence[Figures] | Sequence[Whole],
    theirs: Sequence[Figures] | Sequence[Whole],
    figure: str,
) -> float:
    """Compare round by round: a machine that is slow for a while is slow for both."""
    of: Callable[[Any], float] = attrgetter(figure)
    return median(of(mine) / of(other) for mine, other in zip(ours, theirs, strict=True))
