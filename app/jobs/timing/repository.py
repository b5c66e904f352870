"""The table of durations: added to by whoever ends a job, read by whoever plans polls."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import DurationRow, JobRow
from app.db.rows import Rows
from app.db.statements import table_of
from app.jobs.state import FOLLOWED
from app.jobs.timing.durations import Kind, Observation, Phase, bucket_of, weight_at


class DurationRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def observe(self, observations: Iterable[Observation], *, at: datetime) -> None:
        seen = Counter((each.kind, bucket_of(each.seconds)) for each in observations)
        if not seen:
            return
        weight = weight_at(at)
        rows = [
            {
                "model": kind.model,
                "input_class": kind.input_class,
                "phase": kind.phase.value,
                "bucket": bucket,
                "weight": times * weight,
                "seen_at": at,
            }
            for (kind, bucket), times in seen.items()
        ]
        await _ADD.execute(self._tx, rows)

    async def since(self, at: datetime) -> Sequence[tuple[Kind, int, float]]:
        """Return the weights that were added to after `at`."""
        found = await self._tx.execute(
            select(
                DurationRow.phase,
                DurationRow.model,
                DurationRow.input_class,
                DurationRow.bucket,
                DurationRow.weight,
            ).where(DurationRow.seen_at >= at)
        )
        return [
            (Kind(Phase(phase), model, input_class), bucket, weight)
            for phase, model, input_class, bucket, weight in found
        ]

    async def count_followed(self) -> int:
        counted = await self._tx.execute(
            select(func.count()).select_from(JobRow).where(JobRow.state.in_(FOLLOWED))
        )
        return counted.scalar_one()


def _add_up(added: Any) -> Any:
    """Add each weight to that of its bucket."""
    return added.on_conflict_do_update(
        index_elements=_TABLE.primary_key,
        set_={
            "weight": _TABLE.c.weight + added.excluded.weight,
            "seen_at": added.excluded.seen_at,
        },
    )


_TABLE = table_of(DurationRow)
_ADD = Rows(*_TABLE.columns).in_upsert(DurationRow, _add_up)
