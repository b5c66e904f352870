"""The one way to make a job's events known, in the transaction of the change they tell of."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import log
from app.events.log import JobEvent


async def announce(tx: AsyncConnection, events: Sequence[JobEvent]) -> None:
    """Append to the jobs' log; what is rolled back was never announced."""
    await log.append(tx, events)
