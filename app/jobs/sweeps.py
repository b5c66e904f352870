"""Ends what only time can end: attempts, jobs called off while waiting, overdue jobs."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events.log import JobEvent
from app.jobs.announce import announce
from app.jobs.models import COST_STATES
from app.jobs.outcomes import TIMED_OUT
from app.jobs.state import JobState
from app.jobs.sweep_repository import SweepRepository
from app.quotas import ledger
from app.quotas.repository import Ending, EntryKind

Moves = Mapping[JobState, Mapping[str, int]]
"""The event numbers of jobs, by the state they moved to."""

_NEVER_KNOWN = {
    "code": "submit_unknown",
    "message": "It was never found out whether RunComfy has this job.",
}


class SweepConfig(BaseModel):
    model_config = ConfigDict(frozen=True)

    swept_at_once: int = 500
    lease: timedelta = timedelta(seconds=30)
    job_timeout: timedelta = timedelta(hours=1)
    late_watch: timedelta = timedelta(hours=24)
    unknown_life: timedelta = timedelta(hours=24)
    unknown_ends: Ending = EntryKind.SETTLE


class Sweeps:
    def __init__(self, config: SweepConfig) -> None:
        self._config = config

    def since(self, *, at: datetime) -> Mapping[str, datetime]:
        """Return the times that `OVERDUE` asks for."""
        return {
            "at": at,
            "forgotten_before": at - self._config.unknown_life,
            "sent_before": at - self._config.job_timeout,
            "unseen_since": at - self._config.lease,
        }

    async def run(self, tx: AsyncConnection, *, at: datetime) -> Moves:
        """Move what is overdue, with its events and the ends of its holds."""
        jobs = SweepRepository(tx, at_once=self._config.swept_at_once, since=self.since(at=at))
        unknown = await jobs.expire_submits()
        dropped = await jobs.drop_called_off()
        forgotten = await jobs.give_up_unknown(
            error=_NEVER_KNOWN, cost_state=COST_STATES[self._config.unknown_ends]
        )
        late = await jobs.time_out(error=TIMED_OUT, watch_until=at + self._config.late_watch)
        moves = {
            JobState.SUBMIT_UNKNOWN: unknown,
            JobState.CANCELLED: dropped,
            JobState.FAILED: {**forgotten, **late},
        }
        await announce(
            tx, [event for state, seqs in moves.items() for event in _events(seqs, state, at)]
        )
        endings: dict[str, Ending] = dict.fromkeys([*dropped, *late], EntryKind.RELEASE)
        endings |= dict.fromkeys(forgotten, self._config.unknown_ends)
        await ledger.end_all(tx, endings, at=at)
        return moves


def _events(seqs: Mapping[str, int], state: JobState, at: datetime) -> list[JobEvent]:
    return [
        JobEvent(job_id=job_id, seq=seq, type=state.value, at=at) for job_id, seq in seqs.items()
    ]
