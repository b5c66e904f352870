"""Writes deliveries in the event's own transaction: none is sent for what did not happen."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, Select, func, insert, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.ids import new_id
from app.core.owners import owner_of
from app.db.models import JobRow, WebhookDeliveryRow, WebhookEndpointRow
from app.db.prepared import made_once
from app.db.statements import among
from app.events.log import JobEvent
from app.webhooks.events import DEFAULT_EVENTS, EventType, event_of


async def enqueue(tx: AsyncConnection, events: Sequence[JobEvent]) -> bool:
    """Write a delivery for each receiver of each event; return whether there were any.

    Costs one statement if there are no receivers, none for events that nobody can receive.
    """
    relevant = [(event, kind) for event in events if (kind := event_of(event.type))]
    if not relevant:
        return False
    ids = sorted({event.job_id for event, _ in relevant})
    found = await tx.execute(_RECEIVERS[tx.dialect.name], {"ids": ids})
    receivers = {job_id: list(some) for job_id, some in groupby(found, attrgetter("id"))}
    rows = [
        row
        for event, kind in relevant
        for row in _deliveries(event, kind, receivers.get(event.job_id, []))
    ]
    if rows:
        await tx.execute(insert(WebhookDeliveryRow), rows)
    return bool(rows)


def receiver_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def new_delivery(**fields: Any) -> dict[str, Any]:
    """Make the row of a delivery that is due as soon as it is committed."""
    return {
        "id": new_id("msg"),
        "endpoint_id": None,
        "job_id": None,
        "state": "pending",
        "attempts": 0,
        "step": 0,
        "due_at": fields["event_at"],
        "created_at": fields["event_at"],
        **fields,
    }


def _receivers(service: ColumnElement[str]) -> Select[*tuple[Any, ...]]:
    """Select each job's own URL, and the endpoints of its user and of the user's owner."""
    return made_once(
        select(
            JobRow.id,
            JobRow.user_id,
            JobRow.webhook_url,
            WebhookEndpointRow.id.label("endpoint_id"),
            WebhookEndpointRow.user_id.label("endpoint_user_id"),
            WebhookEndpointRow.events,
        )
        .outerjoin(
            WebhookEndpointRow,
            (WebhookEndpointRow.user_id.in_([JobRow.user_id, service]))
            & WebhookEndpointRow.disabled_reason.is_(None),
        )
        .where(
            among(JobRow.id, "ids"),
            or_(JobRow.webhook_url.is_not(None), WebhookEndpointRow.id.is_not(None)),
        )
        .order_by(JobRow.id, WebhookEndpointRow.id)
    )


# A user's id up to the first slash, as in `owner_of`; no user is called `oidc`.
_RECEIVERS = {
    "sqlite": _receivers(
        func.substr(JobRow.user_id, 1, func.instr(JobRow.user_id, "/") - literal(1))
    ),
    "postgresql": _receivers(func.split_part(JobRow.user_id, "/", 1)),
}


def _deliveries(
    event: JobEvent, kind: EventType, receivers: Sequence[Any]
) -> Iterator[dict[str, Any]]:
    if not receivers:
        return
    job = receivers[0]
    shared = {"job_id": event.job_id, "type": kind.value, "event_at": event.at}
    if job.webhook_url is not None and kind in DEFAULT_EVENTS:
        lane = f"{owner_of(job.user_id)} {receiver_of(job.webhook_url)}"
        yield new_delivery(user_id=job.user_id, lane=lane, **shared)
    for each in receivers:
        if each.endpoint_id is not None and kind.value in each.events:
            yield new_delivery(
                user_id=each.endpoint_user_id,
                endpoint_id=each.endpoint_id,
                lane=each.endpoint_id,
                **shared,
            )
