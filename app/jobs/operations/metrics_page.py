"""What only the database knows about jobs, holds and deliveries, read when metrics are."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.metrics import Metrics
from app.core.refresh import Refresh
from app.db.engine import Database
from app.db.models import HeartbeatRow, JobRow, WebhookDeliveryRow
from app.db.patience import within
from app.jobs.lanes.accounts import Roster
from app.jobs.lanes.pause import is_paused
from app.jobs.lanes.repository import DISPATCH, POLLS, LaneRepository
from app.jobs.operations.health import ALIVE_FOR
from app.jobs.state import UNFINISHED, JobState
from app.storage.archive import Archive

logger = structlog.get_logger(__name__)

_FRESH_FOR = timedelta(seconds=5)
_PATIENCE = timedelta(seconds=3)
_OVERDUE = timedelta(minutes=1)
_MICRO = 1_000_000


class MetricsPage:
    """However often metrics are read, the database is asked at most once in five seconds."""

    def __init__(
        self,
        *,
        database: Database,
        archive: Archive,
        roster: Roster,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._archive = archive
        self._lanes = _lanes_of(roster)
        self._metrics = metrics
        self._clock = clock
        self._refresh = Refresh(self._take, fresh_for=_FRESH_FOR, clock=clock)

    async def render(self) -> bytes:
        """Return all metrics as text; if the database is away, they say so, and nothing fails."""
        await self._refresh()
        for name, pool in self._database.pools().items():
            for state, count in pool.items():
                self._metrics.connections.labels(name, state).set(count)
        return self._metrics.render()

    async def _take(self) -> None:
        try:
            async with within(_PATIENCE):
                self._metrics.outputs_at_risk.set(await self._archive.count_at_risk())
                await self._database.read(self._read)
        except Exception as exc:  # noqa: BLE001 - what is known without it is still worth showing
            logger.warning("metrics.database_away", reason=type(exc).__name__)
            self._metrics.forget_database()
        else:
            self._metrics.is_database_up.set(1)

    async def _read(self, connection: AsyncConnection) -> None:
        metrics, at = self._metrics, self._clock.now()
        states = await _states(connection)
        counted = {
            state.value: states[state].jobs if state in states else 0 for state in UNFINISHED
        }
        metrics.set_state(metrics.jobs, counted)
        metrics.held_jobs.set(sum(row.held for row in states.values()))
        metrics.held_usd.set(sum(int(row.micro_usd or 0) for row in states.values()) / _MICRO)
        pending = states.get(JobState.PENDING)
        metrics.oldest_pending.set(0 if pending is None else _seconds(pending.oldest, at))
        due = func.count().filter(WebhookDeliveryRow.due_at <= at - _OVERDUE)
        waiting = await connection.execute(
            select(func.count().label("waiting"), due.label("overdue")).where(
                WebhookDeliveryRow.due_at.is_not(None)
            )
        )
        row = waiting.one()
        metrics.waiting_webhooks.set(row.waiting)
        metrics.overdue_webhooks.set(row.overdue)
        metrics.is_paused.set(await is_paused(connection))
        lanes = LaneRepository(connection)
        metrics.set_state(
            metrics.is_lane_open,
            {shown: not (await lanes.find(lane)).is_shut(at) for shown, lane in self._lanes},
        )
        alive = select(func.count()).where(HeartbeatRow.beat_at > at - ALIVE_FOR)
        metrics.live_workers.set((await connection.execute(alive)).scalar_one())


def _lanes_of(roster: Roster) -> list[tuple[str, str]]:
    """Return each lane's label and name; draining accounts have no submits to show."""
    submits = [account for account in roster.several if account in roster.takers]
    return [
        ("submits", DISPATCH),
        ("polls", POLLS),
        *((f"submits/{account}", roster.lane_of(DISPATCH, account)) for account in submits),
        *((f"polls/{account}", roster.lane_of(POLLS, account)) for account in roster.several),
    ]


async def _states(connection: AsyncConnection) -> Mapping[JobState, Any]:
    is_held = JobRow.cost_state == "held"
    found = await connection.execute(
        select(
            JobRow.state,
            func.count().label("jobs"),
            func.count().filter(is_held).label("held"),
            func.sum(JobRow.price_micro_usd).filter(is_held).label("micro_usd"),
            func.min(JobRow.created_at).label("oldest"),
        )
        .where(JobRow.state.in_(UNFINISHED))
        .group_by(JobRow.state)
    )
    return {JobState(row.state): row for row in found}


def _seconds(since: datetime, at: datetime) -> float:
    return max(0.0, (at - since).total_seconds())
