"""The statements by which deliverers claim and end deliveries, many at a time."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import CTE, ColumnElement, Text, and_, column, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow, WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow
from app.db.models.base import UtcDateTime
from app.db.rows import Rows
from app.db.statements import table_of
from app.webhooks.delivery_repository import DELIVERIES
from app.webhooks.models import Outcome

_OUTCOMES = Rows(
    column("id", Text), column("token", Text), column("state", Text), column("due_at", UtcDateTime)
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A due delivery, with the receiver and the user whose slots it would take."""

    id: str
    lane: str
    user_id: str


class DeliveryQueueRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def has_due(
        self, *, at: datetime, not_lanes: Collection[str], not_users: Collection[str]
    ) -> bool:
        due = select(WebhookDeliveryRow.id).where(_due(at, not_lanes, not_users)).limit(1)
        return bool((await self._tx.execute(select(due.exists()))).scalar_one())

    async def lock_due(
        self, *, at: datetime, not_lanes: Collection[str], not_users: Collection[str], limit: int
    ) -> Sequence[Waiting]:
        """Lock what is due, except for receivers and users without room, the longest due first."""
        due = await self._tx.execute(
            select(WebhookDeliveryRow.id, WebhookDeliveryRow.lane, WebhookDeliveryRow.user_id)
            .where(_due(at, not_lanes, not_users))
            .order_by(WebhookDeliveryRow.due_at, WebhookDeliveryRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return [Waiting(*row) for row in due]

    async def lease(self, ids: Sequence[str], *, token: str, until: datetime) -> None:
        await self._tx.execute(
            update(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.id.in_(ids))
            .values(lease_token=token, due_at=until)
        )

    async def targets(self, ids: Sequence[str]) -> Sequence[Any]:
        """Return deliveries with their receivers, and with the secrets of endpoints."""
        found = await self._tx.execute(
            DELIVERIES.add_columns(
                WebhookDeliveryRow.lane,
                WebhookDeliveryRow.event_at,
                WebhookDeliveryRow.step,
                WebhookEndpointRow.disabled_reason,
                WebhookEndpointRow.secret,
                WebhookEndpointRow.previous_secret,
                WebhookEndpointRow.previous_expires_at,
                JobRow.user_id.label("job_user_id"),
            )
            .where(WebhookDeliveryRow.id.in_(ids))
            .order_by(WebhookDeliveryRow.id)
        )
        return found.all()

    async def end(self, outcomes: Sequence[Outcome]) -> set[str]:
        """Write outcomes whose writers still hold the lease, with their attempts; return ids."""
        ended = await _END.execute(self._tx, [_row(outcome) for outcome in outcomes])
        numbers = {row.id: row.attempts for row in ended}
        if numbers:
            await self._tx.execute(
                insert(WebhookAttemptRow),
                [
                    {
                        "delivery_id": outcome.lease.id,
                        "number": numbers[outcome.lease.id],
                        **asdict(outcome.attempt),
                    }
                    for outcome in outcomes
                    if outcome.lease.id in numbers
                ],
            )
        return set(numbers)

    async def free_leases(self, *, at: datetime) -> None:
        """End every lease; only for a caller that knows that no other process holds one."""
        await self._tx.execute(
            update(WebhookDeliveryRow)
            # Who has a lease is due, and an index has those that are.
            .where(
                WebhookDeliveryRow.due_at.is_not(None), WebhookDeliveryRow.lease_token.is_not(None)
            )
            .values(lease_token=None, due_at=at)
        )


def _due(
    at: datetime, not_lanes: Collection[str], not_users: Collection[str]
) -> ColumnElement[bool]:
    conditions = [WebhookDeliveryRow.due_at <= at]
    if not_lanes:
        conditions.append(WebhookDeliveryRow.lane.not_in(not_lanes))
    if not_users:
        conditions.append(WebhookDeliveryRow.user_id.not_in(not_users))
    return and_(*conditions)


def _end(new: CTE) -> Any:
    return (
        update(_DELIVERY)
        .where(_DELIVERY.c.id == new.c.id, _DELIVERY.c.lease_token == new.c.token)
        .values(
            state=new.c.state,
            due_at=new.c.due_at,
            lease_token=None,
            attempts=_DELIVERY.c.attempts + 1,
            step=_DELIVERY.c.step + 1,
        )
        .returning(_DELIVERY.c.id, _DELIVERY.c.attempts)
    )


_DELIVERY = table_of(WebhookDeliveryRow)
_END = _OUTCOMES.in_statement(_end)


def _row(outcome: Outcome) -> dict[str, Any]:
    retried = "failed" if outcome.due_at is None else "pending"
    return {
        "id": outcome.lease.id,
        "token": outcome.lease.token,
        "state": "delivered" if outcome.delivered else retried,
        "due_at": outcome.due_at,
    }
