"""The leased queue that deliverers draw from: one transaction claims or ends many deliveries."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import log as audit
from app.core.clock import Clock
from app.core.ids import new_id
from app.core.metrics import Metrics
from app.core.natural_batch import NaturalBatch
from app.core.owners import owner_of
from app.db.engine import Database
from app.db.records import record_of
from app.db.users import disabled_among
from app.webhooks.models import DeliveryLease, Outcome
from app.webhooks.queue_repository import DeliveryQueueRepository, Waiting
from app.webhooks.repository import EndpointRepository, SecretRepository
from app.webhooks.safe import Safe

logger = structlog.get_logger(__name__)

_OURS = frozenset({"endpoint_disabled", "user_disabled", "no_secret", "internal"})


class DeliveryQueueConfig(BaseModel):
    """`per_lane` and `per_user` limit the slots of a process for one receiver, or one user's.

    Nor may a receiver hold more than are free, or a user more than twice as many: however many of
    them are slow, there is a slot for the next one.
    """

    model_config = ConfigDict(frozen=True)

    lease: timedelta = timedelta(seconds=30)
    per_lane: int = 32
    per_user: int = 64
    failing_for: timedelta = timedelta(days=5)


class DeliveryQueue:
    def __init__(
        self,
        *,
        database: Database,
        safe: Safe,
        config: DeliveryQueueConfig,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._database = database
        self._safe = safe
        self._config = config
        self._clock = clock
        self.record = NaturalBatch(self._apply)
        """Write one outcome; return whether it counted: not if the lease was lost."""

    async def claim(
        self, *, limit: int, under_way: Collection[DeliveryLease]
    ) -> Sequence[DeliveryLease]:
        """Claim what is due, but let no receiver or user leave the others without room."""
        at = self._clock.now()
        lanes = Counter(lease.lane for lease in under_way)
        users = Counter(lease.user_id for lease in under_way)
        per_lane, per_user = self._slot_limits(free=limit)
        full: dict[str, Collection[str]] = {
            "not_lanes": [lane for lane, busy in lanes.items() if busy >= per_lane],
            "not_users": [user for user, busy in users.items() if busy >= per_user],
        }

        async def work(tx: AsyncConnection) -> Sequence[DeliveryLease]:
            deliveries = DeliveryQueueRepository(tx)
            due = await deliveries.lock_due(at=at, limit=limit, **full)
            chosen = self._with_room(due, free=limit, lanes=Counter(lanes), users=Counter(users))
            if not chosen:
                return []
            token = new_id("lease")
            await deliveries.lease(chosen, token=token, until=at + self._config.lease)
            rows = await deliveries.targets(chosen)
            return await self._leases(tx, rows, token=token, at=at)

        if not await self._database.look_up(
            lambda tx: DeliveryQueueRepository(tx).has_due(at=at, **full)
        ):
            return []
        return await self._database.transact(work)

    def has_room_again(self, lane: str, under_way: Collection[DeliveryLease]) -> bool:
        """Return whether to claim more: only once half is free, to claim many at a time."""
        busy = sum(lease.lane == lane for lease in under_way)
        return busy <= self._config.per_lane // 2

    def _slot_limits(self, *, free: int) -> tuple[int, int]:
        """Return how many slots a receiver and a user may hold while so many are free."""
        return min(self._config.per_lane, free), min(self._config.per_user, 2 * free)

    def _with_room(
        self, due: Sequence[Waiting], *, free: int, lanes: Counter[str], users: Counter[str]
    ) -> list[str]:
        chosen: list[str] = []
        for waiting in due:
            per_lane, per_user = self._slot_limits(free=free - len(chosen))
            if lanes[waiting.lane] < per_lane and users[waiting.user_id] < per_user:
                lanes[waiting.lane] += 1
                users[waiting.user_id] += 1
                chosen.append(waiting.id)
        return chosen

    async def _leases(
        self, tx: AsyncConnection, rows: Sequence[Any], *, token: str, at: datetime
    ) -> Sequence[DeliveryLease]:
        signers = {
            owner: await self._signers_of(tx, owner, at=at)
            for owner in sorted({owner_of(row.job_user_id) for row in rows if not row.endpoint_id})
        }
        disabled = await disabled_among(tx, {row.user_id for row in rows})
        return [
            record_of(
                DeliveryLease,
                row,
                token=token,
                attempts_made=row.attempts,
                secrets=(
                    self._safe.signers(row, at=at)
                    if row.endpoint_id
                    else signers[owner_of(row.job_user_id)]
                ),
                obstacle=_obstacle(row, disabled=disabled),
            )
            for row in rows
        ]

    async def _signers_of(
        self, tx: AsyncConnection, user_id: str, *, at: datetime
    ) -> Sequence[str]:
        """Return the secret for a user's jobs, made now if there is none yet."""
        secrets = SecretRepository(tx)
        row = await secrets.find(user_id)
        if row is None:
            _, sealed = self._safe.make()
            await secrets.ensure(user_id, sealed=sealed, at=at)
            row = await secrets.find(user_id)
        return self._safe.signers(row, at=at)

    async def _apply(self, outcomes: Sequence[Outcome]) -> Sequence[bool]:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> tuple[set[str], Sequence[tuple[str, str]]]:
            deliveries = DeliveryQueueRepository(tx)
            counted = await deliveries.end(outcomes)
            recorded = [each for each in outcomes if each.lease.id in counted]
            return counted, await self._judge(tx, recorded, at=at)

        counted, disabled = await self._database.transact(work)
        for outcome in outcomes:
            self._report(outcome, counted=outcome.lease.id in counted)
        for endpoint_id, reason in disabled:
            logger.warning("webhook.endpoint_disabled", endpoint_id=endpoint_id, reason=reason)
        return [outcome.lease.id in counted for outcome in outcomes]

    def _report(self, outcome: Outcome, *, counted: bool) -> None:
        lease, attempt = outcome.lease, outcome.attempt
        if not counted:
            self._metrics.lease_losses.labels("webhook").inc()
            logger.warning("webhook.lease_lost", delivery_id=lease.id)
            return
        self._metrics.webhooks.labels(_word(outcome)).inc()
        logger.info(
            "webhook.attempted",
            delivery_id=lease.id,
            endpoint_id=lease.endpoint_id,
            job_id=lease.job_id,
            event_type=lease.type,
            delivered=outcome.delivered,
            attempts=lease.attempts_made + 1,
            status=attempt.status_code,
            reason=attempt.error,
            duration_ms=attempt.milliseconds,
            is_last=outcome.due_at is None,
        )

    async def _judge(
        self, tx: AsyncConnection, outcomes: Sequence[Outcome], *, at: datetime
    ) -> Sequence[tuple[str, str]]:
        """Note which endpoints work, and disable those that are gone or failed for too long."""
        endpoints = EndpointRepository(tx)
        well = _endpoints(each for each in outcomes if each.delivered)
        # An endpoint has not failed if the reason was ours.
        tried = [
            each for each in outcomes if not each.delivered and each.attempt.error not in _OURS
        ]
        badly = _endpoints(tried) - well
        gone = _endpoints(each for each in tried if each.gone)
        disabled: list[tuple[str, str]] = []
        if well:
            await endpoints.note_success(well)
        if badly:
            await endpoints.note_failure(badly, at=at)
            disabled += [(each, "gone") for each in await endpoints.disable(gone, reason="gone")]
            # Not at the first failure: a quiet endpoint may have been sent nothing for days.
            given_up = _endpoints(each for each in tried if each.due_at is None)
            failing = await endpoints.disable(
                given_up, reason="failing", failing_before=at - self._config.failing_for
            )
            disabled += [(each, "failing") for each in failing]
        for endpoint_id, reason in disabled:
            await audit.append(
                tx,
                at=at,
                actor="system",
                action="webhook_endpoint.disabled",
                target=f"webhook_endpoint:{endpoint_id}",
                after={"disabled_reason": reason},
            )
        return disabled


def _obstacle(row: Any, *, disabled: Collection[str]) -> str | None:
    """Say why an attempt would be pointless; None if it would not."""
    if row.disabled_reason is not None:
        return "endpoint_disabled"
    return "user_disabled" if row.user_id in disabled else None


def _endpoints(outcomes: Iterable[Outcome]) -> set[str]:
    ids = (each.lease.endpoint_id for each in outcomes)
    return {endpoint_id for endpoint_id in ids if endpoint_id is not None}


def _word(outcome: Outcome) -> str:
    if outcome.delivered:
        return "delivered"
    return "failed" if outcome.due_at is None else "retried"
