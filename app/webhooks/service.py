"""What clients and operators may do with webhooks; each method is one transaction."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypedDict

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import log as audit
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.ids import is_id, new_id
from app.db.engine import Database
from app.db.users import lock_user
from app.db.work import Work
from app.webhooks.addresses import WebhookAddresses
from app.webhooks.delivery_repository import DeliveryFilter, DeliveryRepository
from app.webhooks.errors import (
    DeliveryNotFoundError,
    EndpointDisabledError,
    EndpointNotFoundError,
    TooManyEndpointsError,
)
from app.webhooks.events import TEST
from app.webhooks.models import Delivery, Endpoint, Secret
from app.webhooks.outbox import new_delivery
from app.webhooks.repository import EndpointRepository, SecretRepository
from app.webhooks.safe import Safe

_MOST_ENDPOINTS = 20


class EndpointChanges(TypedDict, total=False):
    url: str
    events: Sequence[str]
    disabled: bool


class WebhookService:
    """`deliverer` wakes this process's delivery loop, if it has one."""

    def __init__(
        self,
        *,
        database: Database,
        safe: Safe,
        addresses: WebhookAddresses,
        clock: Clock,
        deliverer: Doorbell,
    ) -> None:
        self._database = database
        self._safe = safe
        self._addresses = addresses
        self._clock = clock
        self._deliverer = deliverer

    async def create(
        self, *, user_id: str, url: str, events: Sequence[str]
    ) -> tuple[Endpoint, Secret]:
        """Make an endpoint; its secret cannot be shown again."""
        self._addresses.check(url, field="url")
        secret, sealed = self._safe.make()
        endpoint = Endpoint(
            id=new_id("endpoint"),
            user_id=user_id,
            url=url,
            events=tuple(events),
            disabled_reason=None,
            failing_since=None,
            previous_expires_at=None,
            created_at=self._clock.now(),
        )

        async def work(tx: AsyncConnection) -> None:
            endpoints = EndpointRepository(tx)
            await lock_user(tx, user_id)
            if await endpoints.count(user_id) >= _MOST_ENDPOINTS:
                raise TooManyEndpointsError(_MOST_ENDPOINTS)
            await endpoints.add(endpoint, sealed=sealed)

        await self._database.transact(work)
        return endpoint, Secret(secret=secret, previous_expires_at=None)

    async def page(self, *, user_id: str, before: str | None, limit: int) -> Sequence[Endpoint]:
        return await self._database.read(
            lambda tx: EndpointRepository(tx).page(user_id=user_id, before=before, limit=limit)
        )

    async def get(self, endpoint_id: str, *, user_id: str) -> Endpoint:
        return await self._database.read(lambda tx: _find(tx, endpoint_id, user_id=user_id))

    async def change(self, endpoint_id: str, changes: EndpointChanges, *, user_id: str) -> Endpoint:
        """Change the given fields; an endpoint that is enabled again starts with a clean record."""
        if "url" in changes:
            self._addresses.check(changes["url"], field="url")

        async def work(tx: AsyncConnection) -> Endpoint:
            endpoint = await _find(tx, endpoint_id, user_id=user_id, lock=True)
            endpoint = replace(
                endpoint,
                url=changes.get("url", endpoint.url),
                events=tuple(changes.get("events", endpoint.events)),
            )
            disabled = changes.get("disabled")
            if disabled is False:
                endpoint = replace(endpoint, disabled_reason=None, failing_since=None)
            elif disabled and endpoint.disabled_reason is None:
                endpoint = replace(endpoint, disabled_reason="owner")
            await EndpointRepository(tx).save(endpoint)
            return endpoint

        return await self._database.transact(work)

    async def delete(self, endpoint_id: str, *, user_id: str) -> None:
        """Delete an endpoint with all its deliveries."""
        deleted = is_id(endpoint_id, prefix="endpoint") and await self._database.transact(
            lambda tx: EndpointRepository(tx).delete(endpoint_id, user_id=user_id), is_long=True
        )
        if not deleted:
            raise EndpointNotFoundError(endpoint_id)

    async def rotate(
        self, endpoint_id: str, *, overlap: timedelta, user_id: str
    ) -> tuple[Endpoint, Secret]:
        """Give an endpoint a new secret; both sign until the overlap is over."""
        secret, sealed = self._safe.make()
        previous_expires_at = self._end_of(overlap)

        async def work(tx: AsyncConnection) -> Endpoint:
            endpoint = await _find(tx, endpoint_id, user_id=user_id, lock=True)
            await EndpointRepository(tx).replace_secret(
                endpoint_id, sealed=sealed, previous_expires_at=previous_expires_at
            )
            return replace(endpoint, previous_expires_at=previous_expires_at)

        endpoint = await self._database.transact(work)
        return endpoint, Secret(secret=secret, previous_expires_at=previous_expires_at)

    async def test(self, endpoint_id: str, *, user_id: str) -> Delivery:
        """Send a test message; raise EndpointDisabledError if it cannot go."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Delivery:
            await _find_enabled(tx, endpoint_id, user_id=user_id)
            row = new_delivery(
                user_id=user_id, endpoint_id=endpoint_id, lane=endpoint_id, type=TEST, event_at=at
            )
            deliveries = DeliveryRepository(tx)
            await deliveries.add(row)
            return await _find_delivery(deliveries, row["id"], DeliveryFilter())

        return await self._sent(work)

    async def deliveries(
        self, endpoint_id: str, *, user_id: str, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        async def work(connection: AsyncConnection) -> Sequence[Delivery]:
            await _find(connection, endpoint_id, user_id=user_id)
            matching = DeliveryFilter(endpoint_id=endpoint_id)
            return await DeliveryRepository(connection).page(matching, before=before, limit=limit)

        return await self._database.read(work)

    async def redeliver(self, delivery_id: str, *, endpoint_id: str, user_id: str) -> Delivery:
        """Send a message again under the same id, however it went before."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Delivery:
            await _find_enabled(tx, endpoint_id, user_id=user_id)
            deliveries, matching = DeliveryRepository(tx), DeliveryFilter(endpoint_id=endpoint_id)
            await _find_delivery(deliveries, delivery_id, matching)
            await deliveries.start_again(delivery_id, at=at)
            return await _find_delivery(deliveries, delivery_id, matching)

        return await self._sent(work)

    async def secret(self, user_id: str) -> Secret:
        """Return the secret that signs the webhooks of a user's jobs, made when first asked for."""

        async def find(connection: AsyncConnection) -> Secret | None:
            row = await SecretRepository(connection).find(user_id)
            return None if row is None else self._safe.show(row)

        async def make(tx: AsyncConnection) -> Secret:
            secrets = SecretRepository(tx)
            _, sealed = self._safe.make()
            await lock_user(tx, user_id)
            await secrets.ensure(user_id, sealed=sealed, at=self._clock.now())
            return self._safe.show(await secrets.find(user_id))

        found = await self._database.look_up(find)
        return await self._database.transact(make) if found is None else found

    async def rotate_secret(self, user_id: str, *, overlap: timedelta) -> Secret:
        secret, sealed = self._safe.make()
        previous_expires_at = self._end_of(overlap)

        async def work(tx: AsyncConnection) -> None:
            await lock_user(tx, user_id)
            await SecretRepository(tx).rotate(
                user_id,
                sealed=sealed,
                previous_expires_at=previous_expires_at,
                at=self._clock.now(),
            )

        await self._database.transact(work)
        return Secret(secret=secret, previous_expires_at=previous_expires_at)

    async def all_deliveries(
        self, matching: DeliveryFilter, *, before: str | None, limit: int
    ) -> Sequence[Delivery]:
        """Return everybody's deliveries, for operators."""
        return await self._database.read(
            lambda tx: DeliveryRepository(tx).page(matching, before=before, limit=limit)
        )

    async def redeliver_any(self, delivery_id: str, *, actor: str) -> Delivery:
        """Send a message again for an operator, to endpoints and to jobs' own URLs."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Delivery:
            deliveries = DeliveryRepository(tx)
            before = await _find_delivery(deliveries, delivery_id, DeliveryFilter())
            if before.endpoint_id is not None:
                await _find_enabled(tx, before.endpoint_id, user_id=before.user_id)
            await deliveries.start_again(delivery_id, at=at)
            await audit.append(
                tx,
                at=at,
                actor=actor,
                action="delivery.redeliver",
                target=f"delivery:{delivery_id}",
                before={"state": before.state, "attempts": before.attempts_made},
            )
            return await _find_delivery(deliveries, delivery_id, DeliveryFilter())

        return await self._sent(work)

    async def _sent(self, work: Work[Delivery]) -> Delivery:
        delivery = await self._database.transact(work)
        self._deliverer.ring()
        return delivery

    def _end_of(self, overlap: timedelta) -> datetime | None:
        return self._clock.now() + overlap if overlap else None


async def _find(
    connection: AsyncConnection, endpoint_id: str, *, user_id: str, lock: bool = False
) -> Endpoint:
    # Invalid ids are not looked up, since a NUL in one would be an error in Postgres.
    known = is_id(endpoint_id, prefix="endpoint")
    endpoints = EndpointRepository(connection)
    endpoint = await endpoints.find(endpoint_id, user_id=user_id, lock=lock) if known else None
    if endpoint is None:
        raise EndpointNotFoundError(endpoint_id)
    return endpoint


async def _find_enabled(tx: AsyncConnection, endpoint_id: str, *, user_id: str) -> None:
    endpoint = await _find(tx, endpoint_id, user_id=user_id)
    if endpoint.disabled_reason is not None:
        raise EndpointDisabledError


async def _find_delivery(
    deliveries: DeliveryRepository, delivery_id: str, matching: DeliveryFilter
) -> Delivery:
    known = is_id(delivery_id, prefix="msg")
    delivery = await deliveries.find(delivery_id, matching) if known else None
    if delivery is None:
        raise DeliveryNotFoundError(delivery_id)
    return delivery
