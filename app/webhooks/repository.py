"""The statements on endpoints and secrets."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import WebhookEndpointRow, WebhookSecretRow
from app.db.records import record_of
from app.db.statements import insert_into, newest
from app.webhooks.models import Endpoint


class EndpointRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def count(self, user_id: str) -> int:
        found = await self._tx.execute(
            select(func.count()).where(WebhookEndpointRow.user_id == user_id)
        )
        return found.scalar_one()

    async def add(self, endpoint: Endpoint, *, sealed: str) -> None:
        await self._tx.execute(
            insert(WebhookEndpointRow).values(
                id=endpoint.id,
                user_id=endpoint.user_id,
                url=endpoint.url,
                events=list(endpoint.events),
                secret=sealed,
                created_at=endpoint.created_at,
            )
        )

    async def find(self, endpoint_id: str, *, user_id: str, lock: bool = False) -> Endpoint | None:
        wanted = select(WebhookEndpointRow).where(
            WebhookEndpointRow.id == endpoint_id, WebhookEndpointRow.user_id == user_id
        )
        if lock:
            wanted = wanted.with_for_update(key_share=True)
        row = (await self._tx.execute(wanted)).one_or_none()
        return None if row is None else _endpoint(row)

    async def page(self, *, user_id: str, before: str | None, limit: int) -> Sequence[Endpoint]:
        """Return up to `limit` endpoints, newest first, older than `before`."""
        page = select(WebhookEndpointRow).where(WebhookEndpointRow.user_id == user_id)
        page = newest(page, by=WebhookEndpointRow.id, before=before, limit=limit)
        return [_endpoint(row) for row in await self._tx.execute(page)]

    async def save(self, endpoint: Endpoint) -> None:
        await self._tx.execute(
            update(WebhookEndpointRow)
            .where(WebhookEndpointRow.id == endpoint.id)
            .values(
                url=endpoint.url,
                events=list(endpoint.events),
                disabled_reason=endpoint.disabled_reason,
                failing_since=endpoint.failing_since,
            )
        )

    async def replace_secret(
        self, endpoint_id: str, *, sealed: str, previous_expires_at: datetime | None
    ) -> None:
        """Make the current secret the previous one, until `previous_expires_at`."""
        await self._tx.execute(
            update(WebhookEndpointRow)
            .where(WebhookEndpointRow.id == endpoint_id)
            .values(
                secret=sealed,
                previous_secret=None if previous_expires_at is None else WebhookEndpointRow.secret,
                previous_expires_at=previous_expires_at,
            )
        )

    async def delete(self, endpoint_id: str, *, user_id: str) -> bool:
        """Delete an endpoint with all its deliveries."""
        deleted = await self._tx.execute(
            delete(WebhookEndpointRow)
            .where(WebhookEndpointRow.id == endpoint_id, WebhookEndpointRow.user_id == user_id)
            .returning(WebhookEndpointRow.id)
        )
        return deleted.scalar_one_or_none() is not None

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
        """Disable endpoints, with `failing_before` only those failing since then; return ids."""
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


class SecretRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def find(self, user_id: str) -> Any | None:
        found = await self._tx.execute(
            select(WebhookSecretRow).where(WebhookSecretRow.user_id == user_id)
        )
        return found.one_or_none()

    async def ensure(self, user_id: str, *, sealed: str, at: datetime) -> None:
        """Store a secret unless there is one; of concurrent callers the first wins."""
        await self._tx.execute(
            insert_into(self._tx, WebhookSecretRow)
            .values(user_id=user_id, secret=sealed, created_at=at)
            .on_conflict_do_nothing()
        )

    async def rotate(
        self, user_id: str, *, sealed: str, previous_expires_at: datetime | None, at: datetime
    ) -> None:
        """Make the current secret, if any, the previous one, until `previous_expires_at`.

        In one statement, so that of two concurrent first secrets neither is lost.
        """
        new = insert_into(self._tx, WebhookSecretRow).values(
            user_id=user_id, secret=sealed, created_at=at
        )
        await self._tx.execute(
            new.on_conflict_do_update(
                index_elements=[WebhookSecretRow.user_id],
                set_={
                    "secret": sealed,
                    "previous_secret": (
                        None if previous_expires_at is None else WebhookSecretRow.secret
                    ),
                    "previous_expires_at": previous_expires_at,
                },
            )
        )


def _endpoint(row: Any) -> Endpoint:
    return record_of(Endpoint, row, events=tuple(row.events))
