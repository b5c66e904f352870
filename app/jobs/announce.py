"""The one way to make a job's events known, in the transaction of the change they report."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import log
from app.events.log import JobEvent
from app.webhooks import outbox


async def announce(tx: AsyncConnection, events: Sequence[JobEvent]) -> bool:
    """Append to the jobs' log and write the deliveries that are due; return whether there are any.

    What is rolled back was never announced. If True, the caller rings for a deliverer after the
    commit.
    """
    await log.append(tx, events)
    return await outbox.enqueue(tx, events)
