"""The statements on deliveries for clients and operators; workers' are in `queue_repository`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import JobRow, WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow
from app.db.records import columns_of, record_of
from app.db.statements import newest
from app.webhooks.models import Attempt, Delivery, DeliveryState

_MOST_ATTEMPTS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    user_id: str | None = None
    endpoint_id: str | None = None
    state: DeliveryState | None = None


class DeliveryRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def add(self, row: Mapping[str, Any]) -> None:
        await self._tx.execute(insert(WebhookDeliveryRow).values(**row))

    async def page(
        self, matching: DeliveryFilter, *, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        """Return up to `limit` deliveries with their latest attempts, newest first."""
        page = DELIVERIES.where(*_conditions(matching))
        page = newest(page, by=WebhookDeliveryRow.id, before=before, limit=limit)
        return await self._with_attempts(page)

    async def find(self, delivery_id: str, matching: DeliveryFilter) -> Delivery | None:
        named = DELIVERIES.where(WebhookDeliveryRow.id == delivery_id, *_conditions(matching))
        return next(iter(await self._with_attempts(named)), None)

    async def start_again(self, delivery_id: str, *, at: datetime) -> None:
        """Make a delivery due now, at the first step of its retries, unless it is being sent."""
        await self._tx.execute(
            update(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.id == delivery_id, WebhookDeliveryRow.lease_token.is_(None))
            .values(state="pending", step=0, due_at=at)
        )

    async def _with_attempts(self, wanted: Select[Any]) -> Sequence[Delivery]:
        rows = (await self._tx.execute(wanted)).all()
        found = await self._tx.execute(
            select(WebhookAttemptRow)
            .join(WebhookDeliveryRow, WebhookDeliveryRow.id == WebhookAttemptRow.delivery_id)
            .where(
                WebhookAttemptRow.delivery_id.in_([row.id for row in rows]),
                WebhookAttemptRow.number > WebhookDeliveryRow.attempts - _MOST_ATTEMPTS_SHOWN,
            )
            .order_by(WebhookAttemptRow.delivery_id, WebhookAttemptRow.number)
        )
        attempts: dict[str, list[Attempt]] = {}
        for row in found:
            attempts.setdefault(row.delivery_id, []).append(record_of(Attempt, row))
        return [
            record_of(Delivery, row, attempts_made=row.attempts, attempts=attempts.get(row.id, ()))
            for row in rows
        ]


DELIVERIES = (
    select(
        *columns_of(WebhookDeliveryRow, Delivery),
        func.coalesce(WebhookEndpointRow.url, JobRow.webhook_url).label("url"),
    )
    .outerjoin_from(
        WebhookDeliveryRow,
        WebhookEndpointRow,
        WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id,
    )
    .outerjoin(JobRow, JobRow.id == WebhookDeliveryRow.job_id)
)
"""Deliveries with their receivers."""


def _conditions(matching: DeliveryFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if matching.user_id is not None:
        conditions.append(WebhookDeliveryRow.user_id == matching.user_id)
    if matching.endpoint_id is not None:
        conditions.append(WebhookDeliveryRow.endpoint_id == matching.endpoint_id)
    if matching.state is not None:
        conditions.append(WebhookDeliveryRow.state == matching.state)
    return conditions
