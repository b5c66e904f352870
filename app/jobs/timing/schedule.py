"""When to look at a job again: as often as the square root of how likely it is to end."""

import math
from collections.abc import Callable, Sequence
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from app.jobs.timing.durations import Curve, Phase, Rising

Jitter = Callable[[], float]
"""Gives a number in [0, 1): `random.random`, or a test's choice."""

_WORTH = {Phase.QUEUE: 0.25, Phase.RUN: 1.0}  # seeing a job start is worth less than seeing it end
_ATTENTION = 0.5  # the share of all polls that is spread evenly
_RECOVERY = 0.95
_GROWTH = 1.1


class ScheduleConfig(BaseModel):
    """The gaps between two polls of a job in seconds, before a shortage of polls stretches them.

    A plan keeps them between `shortest` and `longest`; while the budget allows, they are at most
    `at_rest`. `price` is what one poll is worth, in seconds of one job's delay.
    """

    model_config = ConfigDict(frozen=True)

    shortest: float = 1.0
    longest: float = 15.0
    at_rest: float = 2.0
    price: float = 0.12


class PollPlan:
    """Places polls along one curve.

    With polls at a rate r(t) an end at t is seen 1/(2 r(t)) later on average, if r changes little
    between two polls. A job that ends with the hazard h(t) and is still there at t with the chance
    S(t) thus costs, at a price p for each poll, the integral of S (h / (2 r) + p r). Under the
    integral each t stands alone, and setting the derivative by r to zero, -h / (2 r^2) + p = 0,
    gives r = sqrt(h / (2 p)): the least delay for as many polls, and the same price for jobs of
    every kind shares the polls best between them. The same law holds when machines are checked
    for silent failures: Barlow, Hunter, Proschan, "Optimum Checking Procedures" (1963).

    The rate is then kept between 1/longest and 1/shortest, and the next poll is where the rate,
    added up from here, makes one: so a rise that is near is anticipated.
    """

    def __init__(self, curve: Curve, *, phase: Phase, config: ScheduleConfig) -> None:
        slowest, fastest = 1 / config.longest, 1 / config.shortest
        unit = _WORTH[phase] / (2 * config.price)
        self._polls = Rising(
            [min(max(math.sqrt(unit * hazard), slowest), fastest) for hazard in curve.hazards]
        )

    def gap(self, elapsed: float, *, stretch: float = 1.0) -> float:
        """Return the seconds to the next poll of a job that has been in its phase for `elapsed`.

        All gaps grow with `stretch`.
        """
        polls = self._polls
        return polls.reaches(polls.at(elapsed) + stretch) - elapsed


class Pace:
    """Fits the plans to what the shared budget allows: one process's view of how short it is."""

    def __init__(self, *, config: ScheduleConfig, polls_per_second: int) -> None:
        self._config = config
        self._polls_per_second = polls_per_second
        self._even_gap = config.at_rest
        self.stretch = 1.0

    def follow(self, jobs: int) -> None:
        """Take note of how many jobs all replicas follow together."""
        affordable = jobs / (_ATTENTION * self._polls_per_second)
        self._even_gap = max(self._config.at_rest, affordable)

    def delay(self, plan: PollPlan, elapsed: float, *, jitter: float) -> timedelta:
        """Return the time to the next poll.

        A part of the budget is spread evenly, so that at rest even an unexpected end is seen
        within seconds.
        """
        gap = min(plan.gap(elapsed, stretch=self.stretch), self._even_gap * self.stretch)
        return timedelta(seconds=max(gap * (0.9 + 0.1 * jitter), self._config.shortest))

    def learn(self, urgencies: Sequence[float]) -> None:
        """Stretch all gaps while more is due than may be polled.

        `urgencies` are those of a claimed batch: they show by how much the plans are too dense.
        It corrects slightly too little, so that the queue of due polls stays short but never empty.
        """
        needed = _RECOVERY * math.fsum(urgencies) / len(urgencies)
        # In steps, so that the backlog after an outage does not look like a lasting shortage.
        self.stretch = max(1.0, min(needed, _GROWTH * self.stretch))

    def recover(self) -> None:
        """Narrow the gaps again once all that is due may be polled."""
        self.stretch = max(1.0, _RECOVERY * self.stretch)

    def urgency(self, plan: PollPlan, elapsed: float, *, overdue: float) -> float:
        """Return how long a due job has gone unseen, in gaps of its plan.

        The delay that a poll is expected to cut short grows with hazard * gap^2, which the plan
        makes the same for all its gaps: when not all can be polled, this is the order.
        """
        return self.stretch + max(overdue, 0.0) / plan.gap(elapsed)


def watch_delay(since_end: timedelta) -> timedelta:
    """Poll a job that has ended after 2 s, then less and less often, down to every 15 minutes."""
    return min(max(since_end / 4, timedelta(seconds=2)), timedelta(minutes=15))


def retry_delay(attempt: int, *, jitter: float) -> timedelta:
    """Return the wait before submit `attempt` + 1: doubled from 1 s to a minute, spread by half."""
    return timedelta(seconds=min(60.0, 2.0 ** min(attempt - 1, 6))) * (0.5 + jitter)
