"""Writes what follows from moves other than workers' outcomes, which are for `Recorder`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow
from app.db.records import columns_of, record_of
from app.events.log import JobEvent
from app.jobs.announce import announce
from app.jobs.models import CostState
from app.jobs.state import JobState
from app.quotas import ledger
from app.quotas.entries import Ending, EntryKind

logger = structlog.get_logger(__name__)

ENDINGS: Mapping[CostState, Ending] = {
    "settled": EntryKind.SETTLE,
    "released": EntryKind.RELEASE,
}
"""How a job's hold has ended, by its `cost_state`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A job that was just moved, as its row is now."""

    id: str
    state: JobState
    event_seq: int
    cost_state: CostState


MOVED = tuple(columns_of(JobRow, Move))
"""What a statement that moves jobs returns for each of them."""


def move_of(row: Any) -> Move:
    return record_of(Move, row, state=JobState(row.state))


async def record_moves(
    tx: AsyncConnection, moves: Sequence[Move], *, at: datetime, note: dict[str, Any] | None = None
) -> bool:
    """Announce moves, and end the holds that the rows say have ended; return what `announce` does.

    Call it once for all jobs that end in a transaction, so that rivals cannot deadlock.
    """
    events = [
        JobEvent(job_id=move.id, seq=move.event_seq, type=move.state.value, at=at, data=note)
        for move in moves
    ]
    to_deliver = await announce(tx, events)
    endings = {move.id: ENDINGS[move.cost_state] for move in moves if move.cost_state in ENDINGS}
    await ledger.end_all(tx, endings, at=at)
    return to_deliver


def log_moves(moves: Sequence[Move]) -> None:
    """Log moves; call it once they are committed."""
    for move in moves:
        logger.info("job.advanced", job_id=move.id, state=move.state.value)
