"""When each followed job is polled next, and which go first when not all can."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import itemgetter

from app.jobs.models import Lease, Watch
from app.jobs.state import JobState
from app.jobs.timing.durations import Kind, Phase
from app.jobs.timing.forecast import Forecast, seconds_since
from app.jobs.timing.schedule import Jitter, Pace, PollPlan, watch_delay


class PollTimes:
    def __init__(
        self,
        *,
        forecast: Forecast,
        pace: Pace,
        job_timeout: timedelta,
        late_watch: timedelta,
        jitter: Jitter,
    ) -> None:
        self._forecast = forecast
        self._pace = pace
        self._job_timeout = job_timeout
        self._late_watch = late_watch
        self._jitter = jitter

    async def refresh(self) -> None:
        """Take in what is known by now: how long jobs take, and how many there are."""
        await self._forecast.refresh()
        self._pace.follow(self._forecast.followed)

    def next_poll(self, lease: Lease, *, at: datetime, state: JobState | None = None) -> datetime:
        """Return when to poll a job next; `state` is its new state, if that changes now.

        There is always a poll at the very instant when its time or its watch is up.
        """
        if lease.finished_at is not None and lease.watch_until is not None:
            due_at = at + watch_delay(at - lease.finished_at)
            return min(due_at, lease.watch_until) if at < lease.watch_until else due_at
        plan, elapsed = self._plan(lease, at=at, state=state)
        due_at = at + self._pace.delay(plan, elapsed, jitter=self._jitter())
        return self.before_time_out(lease, due_at, at=at)

    def before_time_out(self, lease: Lease, due_at: datetime, *, at: datetime) -> datetime:
        times_out_at = self.times_out_at(lease)
        return min(due_at, times_out_at) if at < times_out_at else due_at

    def times_out_at(self, lease: Lease) -> datetime:
        return (lease.submitted_at or lease.created_at) + self._job_timeout

    def watch(self, *, at: datetime) -> Watch:
        """Return how to watch a job that ends now, and may yet succeed."""
        return Watch(until=at + self._late_watch, due_at=at + watch_delay(timedelta()))

    def most_urgent(
        self, due: Sequence[tuple[Lease, datetime]], most: int, *, at: datetime
    ) -> list[Lease]:
        """Choose among those due longest, so that no job is passed over for long."""
        if len(due) <= most:
            self._pace.recover()
            return [lease for lease, _ in due]
        ranked = []
        for lease, due_at in due:
            plan, elapsed = self._plan(lease, at=at)
            overdue = (at - due_at).total_seconds()
            ranked.append((self._pace.urgency(plan, elapsed, overdue=overdue), lease))
        ranked.sort(key=itemgetter(0), reverse=True)
        self._pace.learn([urgency for urgency, _ in ranked[:most]])
        return [lease for _, lease in ranked[:most]]

    def _plan(
        self, lease: Lease, *, at: datetime, state: JobState | None = None
    ) -> tuple[PollPlan, float]:
        is_running = (state or lease.state) is JobState.IN_PROGRESS
        phase = Phase.RUN if is_running else Phase.QUEUE
        began_at = lease.started_at if is_running else lease.submitted_at
        kind = Kind.of(phase, lease.model, lease.input_class)
        return self._forecast.durations.plan(kind), seconds_since(began_at, at)
