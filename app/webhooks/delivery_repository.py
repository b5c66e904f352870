"""The statements by which deliveries are listed, claimed and ended, many at a time."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    column,
    delete,
    func,
    insert,
    select,
    update,
    values,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import (
    JobRow,
    UserRow,
    WebhookAttemptRow,
    WebhookDeliveryRow,
    WebhookEndpointRow,
)
from app.db.models.base import UtcDateTime
from app.db.statements import typed_rows
from app.webhooks.models import Attempt, Delivery, DeliveryState, Outcome

_MOST_ATTEMPTS_SHOWN = 20

_OUTCOMES = (
    column("id", Text),
    column("token", Text),
    column("state", Text),
    column("due_at", UtcDateTime),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    user_id: str | None = None
    endpoint_id: str | None = None
    state: DeliveryState | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is due, and whom it could hold up."""

    id: str
    lane: str
    user_id: str


class DeliveryRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def add(self, row: Mapping[str, Any]) -> None:
        await self._tx.execute(insert(WebhookDeliveryRow).values(**row))

    async def page(
        self, matching: DeliveryFilter, *, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        """Give up to `limit` deliveries with their latest attempts, newest first."""
        page = _DELIVERIES.where(*_conditions(matching))
        if before is not None:
            page = page.where(WebhookDeliveryRow.id < before)
        found = await self._tx.execute(page.order_by(WebhookDeliveryRow.id.desc()).limit(limit))
        rows = found.all()
        attempts = await self._attempts([row.id for row in rows])
        return [_delivery(row, attempts.get(row.id, [])) for row in rows]

    async def find(self, delivery_id: str, matching: DeliveryFilter) -> Delivery | None:
        found = await self._tx.execute(
            _DELIVERIES.where(WebhookDeliveryRow.id == delivery_id, *_conditions(matching))
        )
        row = found.one_or_none()
        if row is None:
            return None
        return _delivery(row, (await self._attempts([row.id])).get(row.id, []))

    async def start_again(self, delivery_id: str, *, at: datetime) -> None:
        """Let a delivery be due now, at the foot of the ladder, unless it is just being sent."""
        await self._tx.execute(
            update(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.id == delivery_id, WebhookDeliveryRow.lease_token.is_(None))
            .values(state="pending", step=0, due_at=at)
        )

    async def has_due(
        self, *, at: datetime, not_lanes: Collection[str], not_users: Collection[str]
    ) -> bool:
        due = select(WebhookDeliveryRow.id).where(_due(at, not_lanes, not_users)).limit(1)
        return bool((await self._tx.execute(select(due.exists()))).scalar_one())

    async def lock_due(
        self,
        *,
        at: datetime,
        not_lanes: Collection[str],
        not_users: Collection[str],
        limit: int,
    ) -> Sequence[Waiting]:
        """Lock what is due and does not go where there is no room, the longest due first."""
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
        """Give deliveries with where they go, and with what signs for an endpoint."""
        found = await self._tx.execute(
            select(
                *_COLUMNS,
                WebhookDeliveryRow.lane,
                WebhookDeliveryRow.event_at,
                WebhookDeliveryRow.step,
                WebhookEndpointRow.disabled_reason,
                WebhookEndpointRow.secret,
                WebhookEndpointRow.previous_secret,
                WebhookEndpointRow.previous_expires_at,
                JobRow.user_id.label("job_user_id"),
                UserRow.disabled,
            )
            .outerjoin_from(
                WebhookDeliveryRow,
                WebhookEndpointRow,
                WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id,
            )
            .outerjoin(JobRow, JobRow.id == WebhookDeliveryRow.job_id)
            .join(UserRow, UserRow.id == WebhookDeliveryRow.user_id)
            .where(WebhookDeliveryRow.id.in_(ids))
            .order_by(WebhookDeliveryRow.id)
        )
        return found.all()

    async def end(self, outcomes: Sequence[Outcome]) -> set[str]:
        """Write outcomes whose writers still hold the lease, with their attempts; gives the ids."""
        new = (
            values(*_OUTCOMES, name="new")
            .data(typed_rows(_OUTCOMES, [_row(outcome) for outcome in outcomes]))
            .cte("new")
        )
        ended = await self._tx.execute(
            update(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.id == new.c.id, WebhookDeliveryRow.lease_token == new.c.token)
            .values(
                state=new.c.state,
                due_at=new.c.due_at,
                lease_token=None,
                attempts=WebhookDeliveryRow.attempts + 1,
                step=WebhookDeliveryRow.step + 1,
            )
            .returning(WebhookDeliveryRow.id, WebhookDeliveryRow.attempts)
        )
        numbers = {row.id: row.attempts for row in ended}
        if numbers:
            await self._tx.execute(
                insert(WebhookAttemptRow),
                [
                    _attempt_row(outcome, number=numbers[outcome.errand.id])
                    for outcome in outcomes
                    if outcome.errand.id in numbers
                ],
            )
        return set(numbers)

    async def note_success(self, endpoint_ids: Collection[str]) -> None:
        await self._tx.execute(
            update(WebhookEndpointRow)
            .where(
                WebhookEndpointRow.id.in_(endpoint_ids),
                WebhookEndpointRow.failing_since.is_not(None),
            )
            .values(failing_since=None)
        )

    async def note_failure(self, endpoint_ids: Collection[str], *, at: datetime) -> None:
        await self._tx.execute(
            update(WebhookEndpointRow)
            .where(
                WebhookEndpointRow.id.in_(endpoint_ids), WebhookEndpointRow.failing_since.is_(None)
            )
            .values(failing_since=at)
        )

    async def disable(
        self, endpoint_ids: Collection[str], *, reason: str, failing_before: datetime | None = None
    ) -> Sequence[str]:
        """Disable endpoints, with `failing_before` those alone that fail since then; gives ids."""
        conditions: list[ColumnElement[bool]] = [
            WebhookEndpointRow.id.in_(endpoint_ids),
            WebhookEndpointRow.disabled_reason.is_(None),
        ]
        if failing_before is not None:
            conditions.append(WebhookEndpointRow.failing_since <= failing_before)
        disabled = await self._tx.execute(
            update(WebhookEndpointRow)
            .where(*conditions)
            .values(disabled_reason=reason)
            .returning(WebhookEndpointRow.id)
        )
        return sorted(disabled.scalars())

    async def free_leases(self, *, at: datetime) -> None:
        await self._tx.execute(
            update(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.lease_token.is_not(None))
            .values(lease_token=None, due_at=at)
        )

    async def has_ended(self, *, before: datetime) -> bool:
        """Tell whether there is anything for `prune`."""
        found = await self._tx.execute(
            select(WebhookDeliveryRow.id)
            .where(WebhookDeliveryRow.created_at < before, WebhookDeliveryRow.due_at.is_(None))
            .limit(1)
        )
        return found.first() is not None

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Delete deliveries that ended and were made before then, at most `limit`."""
        old = (
            select(WebhookDeliveryRow.id)
            .where(WebhookDeliveryRow.created_at < before, WebhookDeliveryRow.due_at.is_(None))
            .order_by(WebhookDeliveryRow.created_at)
            .limit(limit)
        )
        ids = list((await self._tx.execute(old)).scalars())
        pruned = await self._tx.execute(
            delete(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.id.in_(ids), WebhookDeliveryRow.due_at.is_(None))
            .returning(WebhookDeliveryRow.id)
        )
        return len(pruned.all())

    async def _attempts(self, ids: Sequence[str]) -> Mapping[str, list[Attempt]]:
        found = await self._tx.execute(
            select(WebhookAttemptRow)
            .join(WebhookDeliveryRow, WebhookDeliveryRow.id == WebhookAttemptRow.delivery_id)
            .where(
                WebhookAttemptRow.delivery_id.in_(ids),
                WebhookAttemptRow.number > WebhookDeliveryRow.attempts - _MOST_ATTEMPTS_SHOWN,
            )
            .order_by(WebhookAttemptRow.delivery_id, WebhookAttemptRow.number)
        )
        attempts: dict[str, list[Attempt]] = {}
        for row in found:
            attempts.setdefault(row.delivery_id, []).append(
                Attempt(
                    at=row.at,
                    milliseconds=row.milliseconds,
                    status_code=row.status_code,
                    error=row.error,
                    body=row.body,
                )
            )
        return attempts


_COLUMNS = (
    WebhookDeliveryRow.id,
    WebhookDeliveryRow.user_id,
    WebhookDeliveryRow.endpoint_id,
    WebhookDeliveryRow.job_id,
    WebhookDeliveryRow.type,
    WebhookDeliveryRow.state,
    WebhookDeliveryRow.attempts,
    WebhookDeliveryRow.due_at,
    WebhookDeliveryRow.created_at,
    func.coalesce(WebhookEndpointRow.url, JobRow.webhook_url).label("url"),
)
_DELIVERIES = (
    select(*_COLUMNS)
    .outerjoin_from(
        WebhookDeliveryRow,
        WebhookEndpointRow,
        WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id,
    )
    .outerjoin(JobRow, JobRow.id == WebhookDeliveryRow.job_id)
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


def _conditions(matching: DeliveryFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if matching.user_id is not None:
        conditions.append(WebhookDeliveryRow.user_id == matching.user_id)
    if matching.endpoint_id is not None:
        conditions.append(WebhookDeliveryRow.endpoint_id == matching.endpoint_id)
    if matching.state is not None:
        conditions.append(WebhookDeliveryRow.state == matching.state)
    return conditions


def _row(outcome: Outcome) -> tuple[Any, ...]:
    retried = "failed" if outcome.due_at is None else "pending"
    state = "delivered" if outcome.delivered else retried
    return outcome.errand.id, outcome.errand.token, state, outcome.due_at


def _attempt_row(outcome: Outcome, *, number: int) -> dict[str, Any]:
    attempt = outcome.attempt
    return {
        "delivery_id": outcome.errand.id,
        "number": number,
        "at": attempt.at,
        "milliseconds": attempt.milliseconds,
        "status_code": attempt.status_code,
        "error": attempt.error,
        "body": attempt.body,
    }


def _delivery(row: Any, attempts: Sequence[Attempt]) -> Delivery:
    return Delivery(
        id=row.id,
        user_id=row.user_id,
        endpoint_id=row.endpoint_id,
        job_id=row.job_id,
        type=row.type,
        state=row.state,
        url=row.url,
        attempts_made=row.attempts,
        due_at=row.due_at,
        created_at=row.created_at,
        attempts=attempts,
    )
