"""What a process counts and measures, with few label values: no ids, names or addresses."""

import math
from collections.abc import Mapping
from datetime import timedelta

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from app.core.clock import Clock

# The start time of each series would be another series, under an undocumented name.
disable_created_metrics()  # type: ignore[no-untyped-call]

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_SLOW = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300, 900, 3600)
_LOOK = timedelta(seconds=1)


class Metrics:
    """One registry for each app, so that several in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.requests = self._counter(
            "http_requests",
            "Answers to HTTP requests, except health and metrics.",
            "method",
            "route",
            "code",
        )
        self.request_seconds = self._histogram(
            "http_request_seconds",
            "From a request to the head of its answer, minus waits for anything outside it.",
            _FAST,
            "route",
        )
        self.refusals = self._counter(
            "refusals", "Requests refused with 429, by the limit they met.", "code", "limit"
        )
        self.moves = self._counter("job_moves", "States that workers moved jobs to.", "state")
        self.dispatch_delay = self._histogram(
            "dispatch_delay_seconds", "From accept to the first send of a job.", _SLOW
        )
        self.detection_delay = self._histogram(
            "detection_delay_seconds",
            "From a job's end at RunComfy until the gateway knows of it.",
            _SLOW,
        )
        self.polls = self._counter("polls", "Polls of jobs at RunComfy, by outcome.", "outcome")
        self.upstream_seconds = self._histogram(
            "upstream_call_seconds", "Calls to RunComfy.", _FAST, "operation", "outcome"
        )
        self.webhooks = self._counter(
            "webhook_attempts", "Attempts to deliver a webhook.", "outcome"
        )
        self.copies = self._counter("output_copies", "Attempts to archive an output.", "outcome")
        self.lease_losses = self._counter(
            "lease_losses",
            "Outcomes that came after their lease had passed to another worker.",
            "work",
        )
        self.late_requests = self._counter(
            "late_requests", "Request ids that came after their job had moved on."
        )
        self.catalogue_syncs = self._counter(
            "catalogue_syncs", "Reads of RunComfy's catalogue.", "outcome"
        )
        self.catalogue_breaks = self._counter(
            "catalogue_breaking_changes", "Breaking changes of models in use."
        )
        # These start at 0: an alert would miss the first increment, which may be of many at once.
        self.copies.labels("lost")
        for work in ("job", "webhook", "output"):
            self.lease_losses.labels(work)
        for outcome in ("ok", "failed"):
            self.catalogue_syncs.labels(outcome)
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop wakes a sleeping task.", _LAG
        )
        self.connections = self._gauge(
            "database_connections", "Connections of this process.", "pool", "state"
        )
        self.is_serving = self._gauge("serving", "Whether this process serves the API.")
        self.is_database_up = self._gauge(
            "database_up",
            "Whether the database answered the last query; if not, all figures from it are absent"
            " or NaN.",
        )
        self.jobs = self._gauge("jobs", "Jobs that are not final.", "state")
        self.oldest_pending = self._gauge(
            "oldest_pending_seconds", "How long the oldest waiting job has waited."
        )
        self.held_jobs = self._gauge("held_jobs", "Jobs with an open hold.")
        self.held_usd = self._gauge("held_usd", "US dollars in open holds whose price is known.")
        self.outputs_at_risk = self._gauge(
            "outputs_at_risk", "Outputs not archived in time, which RunComfy may delete."
        )
        self.waiting_webhooks = self._gauge(
            "webhook_deliveries_waiting", "Webhooks that wait to be delivered."
        )
        self.overdue_webhooks = self._gauge(
            "webhook_deliveries_overdue", "Webhooks due for over a minute."
        )
        self.is_lane_open = self._gauge(
            "upstream_lane_open",
            "Whether calls of this kind, or for an account, go to RunComfy now.",
            "lane",
        )
        self.is_paused = self._gauge("dispatch_paused", "Whether operators have paused sending.")
        self.live_workers = self._gauge(
            "live_workers", "Processes that looked for work in the last 30 s."
        )

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def set_state(self, gauge: Gauge, values: Mapping[str, float]) -> None:
        """Replace all values of a gauge that has one label."""
        gauge.clear()
        for label, value in values.items():
            gauge.labels(label).set(value)

    def forget_database(self) -> None:
        """Drop all values that may have changed since the database last answered."""
        self.is_database_up.set(0)
        for labelled in (self.jobs, self.is_lane_open):
            labelled.clear()
        for plain in (
            self.oldest_pending,
            self.held_jobs,
            self.held_usd,
            self.outputs_at_risk,
            self.waiting_webhooks,
            self.overdue_webhooks,
            self.is_paused,
            self.live_workers,
        ):
            plain.set(math.nan)

    async def watch_loop(self, *, clock: Clock) -> None:
        """Measure, once a second until cancelled, how late the event loop is."""
        while True:
            began = clock.monotonic()
            await clock.sleep(_LOOK)
            self.loop_lag.observe(max(0.0, clock.monotonic() - began - _LOOK.total_seconds()))

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"gateway_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"gateway_{name}", about, labels, registry=self.registry)

    def _histogram(
        self, name: str, about: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"gateway_{name}", about, labels, buckets=buckets, registry=self.registry)
