"""A day with a million jobs in virtual time: what a poll schedule costs, and how soon it sees ends.

    .venv/bin/python bench/simulation.py [--jobs 1000000]

Each job waits in the queue, runs, and is polled until its end is seen; the learned schedule is the
gateway's own code, begins knowing nothing, and learns from what it has seen to end.
"""

import argparse
import heapq
import itertools
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from app.jobs.timing.durations import Kind, Phase, bucket_of, weight_at
from app.jobs.timing.forecast import Durations
from app.jobs.timing.schedule import ScheduleConfig

DAY = 86_400
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
TIME_OUT = 3600
REFRESH = 300  # the gateway itself reads what is new every ten seconds

# Model, input class, share, median seconds of a run, spread of its logarithm.
CLASSES = (
    ("seedance", "5s 480p", 0.24, 38, 0.18),
    ("seedance", "5s 1080p", 0.18, 95, 0.20),
    ("seedance", "10s 1080p", 0.12, 170, 0.22),
    ("kling", "5s", 0.14, 140, 0.30),
    ("kling", "10s", 0.08, 260, 0.30),
    ("wan", "5s 480p", 0.10, 55, 0.35),
    ("wan", "5s 720p", 0.06, 120, 0.35),
    ("image", "", 0.08, 9, 0.40),
)


@dataclass(slots=True)
class Job:
    at: float
    model: str
    input_class: str
    queue: float
    end: float
    """Both from the submit on."""


def day(number: int, seed: int) -> Iterator[Job]:
    """Yield the jobs of a day in order: busy at noon, and upstream's queue longest then."""
    dice = random.Random(seed)
    shares = [each[2] for each in CLASSES]
    at = 0.0
    while True:
        busy = 1 - 0.6 * math.cos(2 * math.pi * at / DAY)
        at += dice.expovariate(number / DAY * busy)
        if at >= DAY:
            return
        model, name, _, median, spread = dice.choices(CLASSES, shares)[0]
        queue = dice.lognormvariate(math.log(4 * busy), 0.8)
        run = dice.lognormvariate(math.log(median), spread)
        fate = dice.random()
        if fate < 0.03:  # fails on the way
            run *= dice.random()
        elif fate < 0.035:  # stuck for long, but ends after all
            run += dice.paretovariate(1.2) * 60
        if model == "wan" and at > DAY / 2:  # a new release of the model
            run *= 1.3
        yield Job(at, model, name, queue, min(queue + run, TIME_OUT))


Follow = Callable[[Job], tuple[int, float]]
"""Returns how many polls a job took, and how long after its end the last of them came."""


@dataclass
class Tally:
    name: str
    jobs: int = 0
    polls: int = 0
    delay: float = 0.0
    delays: Counter[int] = field(default_factory=Counter)

    def add(self, polls: int, delay: float) -> None:
        self.jobs += 1
        self.polls += polls
        self.delay += delay
        self.delays[int(delay * 10)] += 1

    @property
    def each(self) -> float:
        return self.polls / self.jobs

    @property
    def mean(self) -> float:
        return self.delay / self.jobs

    @property
    def p95(self) -> float:
        left = 0.95 * self.jobs
        for tenth, times in sorted(self.delays.items()):
            left -= times
            if left <= 0:
                return (tenth + 1) / 10
        return math.nan


def fixed(interval: float) -> Follow:
    def follow(job: Job) -> tuple[int, float]:
        polls = max(1, math.ceil(job.end / interval))
        return polls, polls * interval - job.end

    return follow


def backing_off(job: Job) -> tuple[int, float]:
    """Wait 1 s, then half as long again each time, up to 30 s."""
    at, gap, polls = 1.0, 1.0, 1
    while at < job.end:
        gap = min(gap * 1.5, 30.0)
        at += gap
        polls += 1
    return polls, at - job.end


class Learned:
    """Follows each job by the gateway's own plans, and learns from the ends it has seen."""

    def __init__(self, config: ScheduleConfig, *, seed: int) -> None:
        self._durations = Durations(config=config)
        self._weights: dict[tuple[Kind, int], float] = {}
        self._seen: list[tuple[float, int, Kind, float]] = []
        self._order = itertools.count()
        self._fresh_until = 0.0
        self._dice = random.Random(seed)
        self._shortest = config.shortest

    def follow(self, job: Job) -> tuple[int, float]:
        if job.at >= self._fresh_until:
            self._learn(job.at)
        in_queue = Kind.of(Phase.QUEUE, job.model, job.input_class)
        run = Kind.of(Phase.RUN, job.model, job.input_class)
        gap, polls, at, started = self._durations.plan(in_queue).gap, 0, 0.0, None
        while True:
            # As Pace.delay does where the budget leaves nothing to spread evenly.
            wait = gap(at if started is None else at - started)
            at += max(wait * (0.9 + 0.1 * self._dice.random()), self._shortest)
            polls += 1
            if at >= job.end:
                break
            if started is None and at >= job.queue:
                started, gap = at, self._durations.plan(run).gap
                self._see(job.at + at, in_queue, at)
        if started is None:
            self._see(job.at + at, in_queue, at / 2)
            self._see(job.at + at, run, at / 2)
        else:
            self._see(job.at + at, run, at - started)
        return polls, at - job.end

    def _see(self, at: float, kind: Kind, seconds: float) -> None:
        heapq.heappush(self._seen, (at, next(self._order), kind, seconds))

    def _learn(self, now: float) -> None:
        while self._seen and self._seen[0][0] <= now:
            at, _, kind, seconds = heapq.heappop(self._seen)
            place = kind, bucket_of(seconds)
            weight = weight_at(MIDNIGHT + timedelta(seconds=at))
            self._weights[place] = self._weights.get(place, 0.0) + weight
            self._durations.put(*place, self._weights[place])
        self._durations.rebuild(at=MIDNIGHT + timedelta(seconds=now))
        self._fresh_until = now + REFRESH


def tally(jobs: Iterable[Job], schedules: Mapping[str, Follow]) -> list[Tally]:
    tallies = {name: Tally(name) for name in schedules}
    for job in jobs:
        for name, follow in schedules.items():
            tallies[name].add(*follow(job))
    return list(tallies.values())


def at_equal_polls(polls: float, sample: list[Job]) -> float:
    """Search the fixed interval that makes as many polls per job."""
    low, high = 0.5, 120.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        each = sum(fixed(middle)(job)[0] for job in sample) / len(sample)
        low, high = (middle, high) if each > polls else (low, middle)
    return math.sqrt(low * high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument("--price", type=float, default=ScheduleConfig().price)
    arguments = parser.parse_args()
    number, seed = arguments.jobs, arguments.seed
    began = time.perf_counter()
    config = ScheduleConfig(price=arguments.price)
    ours, *others = tally(
        day(number, seed),
        {
            "learned": Learned(config, seed=seed).follow,
            "fixed 2 s": fixed(2),
            "fixed 5 s": fixed(5),
            "back-off: 1 s, half as long again, at most 30 s": backing_off,
        },
    )
    sample = list(itertools.islice(day(number, seed), 0, None, max(1, number // 20_000)))
    interval = at_equal_polls(ours.each, sample)
    others += tally(
        day(number, seed), {f"fixed {interval:.2f} s, for as many polls": fixed(interval)}
    )
    print(f"{ours.jobs} jobs, {time.perf_counter() - began:.0f} s of real time\n")
    print("| schedule | polls per job | mean delay s | p95 delay s |")
    print("|---|---|---|---|")
    for each in (ours, *others):
        print(f"| {each.name} | {each.each:.1f} | {each.mean:.2f} | {each.p95:.1f} |")
    ratio = ours.mean / others[-1].mean
    print(
        "\nFor as many polls per job the learned schedule's mean delay is"
        f" {ratio:.0%} of the fixed interval's."
    )
    sys.exit(0 if ratio <= 0.6 else 1)


if __name__ == "__main__":
    main()
