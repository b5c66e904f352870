"""The table of durations: added to by whoever ends a job, read by whoever plans."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import DurationRow, JobRow
from app.db.statements import insert_into
from app.jobs.state import FOLLOWED
from app.jobs.timing.durations import Kind, Observation, Phase, bucket_of, weight_at


class DurationRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def observe(self, observations: Iterable[Observation], *, at: datetime) -> None:
        seen = Counter((each.kind, bucket_of(each.seconds)) for each in observations)
        if not seen:
            return
        row = insert_into(self._tx, DurationRow)
        row = row.on_conflict_do_update(
            index_elements=[
                DurationRow.model,
                DurationRow.input_class,
                DurationRow.phase,
                DurationRow.bucket,
            ],
            set_={
                "weight": DurationRow.weight + row.excluded.weight,
                "seen_at": row.excluded.seen_at,
            },
        )
        weight = weight_at(at)
        values = [
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
        # Sorted, so that replicas wait for each other in one direction.
        values.sort(key=lambda row: (row["model"], row["input_class"], row["phase"], row["bucket"]))
        await self._tx.execute(row.values(values))

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
