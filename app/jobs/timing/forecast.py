"""What this process knows of durations: read from the shared table, kept for seconds."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.refresh import Refresh
from app.db.engine import Database
from app.jobs.models import Job
from app.jobs.state import JobState
from app.jobs.timing.durations import UNSEEN, Curve, Kind, Phase, learned, weight_at
from app.jobs.timing.repository import DurationRepository
from app.jobs.timing.schedule import PollPlan, ScheduleConfig

_FRESH_FOR = timedelta(seconds=10)
_SKEW = timedelta(minutes=2)  # of other replicas' clocks, and of long transactions
_WORTH_OF_BELIEF = 4.0
_WORTH_OF_MODEL = 8.0

_Weight = tuple[Kind, int, float]  # of one bucket


class Durations:
    """Curves and plans from counts; a kind with few counts borrows from its model's other kinds."""

    def __init__(self, *, config: ScheduleConfig) -> None:
        self._config = config
        self._weights: dict[Kind, dict[int, float]] = defaultdict(dict)
        self._totals: dict[Kind, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        self._curves: dict[Kind, Curve] = {}
        self._plans: dict[Kind, PollPlan] = {}
        self._news: set[str] = set()
        self._now_weighs = 1.0

    def put(self, kind: Kind, bucket: int, weight: float) -> None:
        """Replace the weight of one bucket; it takes effect with `rebuild`."""
        of_kind = self._weights[kind]
        if of_kind.get(bucket) == weight:
            return
        self._totals[_whole(kind)][bucket] += weight - of_kind.get(bucket, 0.0)
        of_kind[bucket] = weight
        self._news.add(kind.model)

    def rebuild(self, *, at: datetime) -> None:
        """Rebuild the curves of the models whose weights were replaced."""
        self._now_weighs = weight_at(at)
        for kind in [kind for kind in self._curves if kind.model in self._news]:
            del self._curves[kind]
            self._plans.pop(kind, None)
        self._news.clear()

    def curve(self, kind: Kind) -> Curve:
        if kind not in self._curves:
            whole = _whole(kind)
            of_model = learned(
                self._today(self._totals.get(whole)),
                before=UNSEEN[kind.phase],
                worth=_WORTH_OF_BELIEF,
            )
            self._curves[kind] = learned(
                self._today(self._weights.get(kind)), before=of_model, worth=_WORTH_OF_MODEL
            )
        return self._curves[kind]

    def plan(self, kind: Kind) -> PollPlan:
        if kind not in self._plans:
            self._plans[kind] = PollPlan(self.curve(kind), phase=kind.phase, config=self._config)
        return self._plans[kind]

    def _today(self, weights: dict[int, float] | None) -> dict[int, float]:
        return {bucket: weight / self._now_weighs for bucket, weight in (weights or {}).items()}


class Forecast:
    def __init__(self, *, database: Database, clock: Clock, config: ScheduleConfig) -> None:
        self._database = database
        self._clock = clock
        self._read_at: datetime | None = None
        self.refresh = Refresh(self._read, fresh_for=_FRESH_FOR, clock=clock)
        """Read what is new, unless that was done a moment ago."""
        self.durations = Durations(config=config)
        self.followed = 0
        """How many jobs all replicas follow together."""

    async def _read(self) -> None:
        since = datetime.min.replace(tzinfo=UTC) if self._read_at is None else self._read_at - _SKEW
        at = self._clock.now()

        async def work(connection: AsyncConnection) -> tuple[Sequence[_Weight], int]:
            repository = DurationRepository(connection)
            return await repository.since(since), await repository.count_followed()

        # Applied out here: on SQLite `work` runs in a thread of its own, beside readers of curves.
        weights, self.followed = await self._database.read(work)
        for kind, bucket, weight in weights:
            self.durations.put(kind, bucket, weight)
        self.durations.rebuild(at=at)
        self._read_at = at


def _whole(kind: Kind) -> Kind:
    return Kind(kind.phase, kind.model, "")


def eta(job: Job, durations: Durations, *, at: datetime) -> timedelta | None:
    """Return how soon half of such jobs end; None if nothing is known or nothing moves."""
    in_queue = durations.curve(Kind.of(Phase.QUEUE, job.model, job.input_class))
    run = durations.curve(Kind.of(Phase.RUN, job.model, job.input_class))
    at_upstream = in_queue.median + run.median
    match job.state:
        case JobState.PENDING if job.place is not None and not job.place.is_paused:
            place = job.place
            # By Little's law, jobs start at the rate of those in flight divided by the time each
            # takes; if none is in flight, nothing is known to hold up the line.
            wait = place.position * at_upstream / place.in_flight if place.in_flight else 0.0
            return timedelta(seconds=wait + at_upstream)
        case JobState.SUBMITTING:
            return timedelta(seconds=at_upstream)
        case JobState.IN_QUEUE:
            rest = in_queue.remaining(seconds_since(job.submitted_at, at)) + run.median
            return timedelta(seconds=rest)
        case JobState.IN_PROGRESS:
            return timedelta(seconds=run.remaining(seconds_since(job.started_at, at)))
        case _:
            return None


def seconds_since(began_at: datetime | None, at: datetime) -> float:
    """Return how long a phase has lasted; none, if the clock of whoever saw it begin is ahead."""
    return max((at - (began_at or at)).total_seconds(), 0.0)
