"""The only way to publish a job's events: in the transaction of the change they report."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import log
from app.events.log import JobEvent
from app.webhooks import outbox


async def announce(tx: AsyncConnection, events: Sequence[JobEvent]) -> bool:
    """Append to the event log and queue webhook deliveries; return whether any were queued.

    If so, the caller rings the deliverer's doorbell after the commit. A rollback takes the
    announcement back, too.
    """
    await log.append(tx, events)
    return await outbox.enqueue(tx, events)
