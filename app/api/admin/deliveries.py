"""/v1/admin/deliveries: everybody's webhooks, also those that jobs name themselves."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Query
from pydantic import Field

from app.api.admin.auth import Operator
from app.api.admin.routing import admin_router
from app.api.deps import Gateway
from app.api.paging import Listed, Page, page_of_ids
from app.api.problems import problem_responses
from app.api.webhook_wire import DeliveryRead, read_delivery
from app.webhooks.delivery_repository import DeliveryFilter
from app.webhooks.errors import DeliveryNotFoundError, EndpointDisabledError
from app.webhooks.models import Delivery, DeliveryState

router = admin_router("/deliveries")


class AdminDeliveryRead(DeliveryRead):
    """Only the `host` of the URL, since what follows may be a secret."""

    user: str = Field(description="The owner of the endpoint or of the job.")
    host: str | None


class AdminDeliveryList(Listed[AdminDeliveryRead]):
    pass


_Page = Annotated[Page, Depends(page_of_ids("msg", "user", "state", "endpoint"))]


@router.get("", summary="List all users' deliveries, newest first")
async def list_all_deliveries(
    gateway: Gateway,
    page: _Page,
    user: Annotated[str | None, Query()] = None,
    state: Annotated[DeliveryState | None, Query()] = None,
    endpoint: Annotated[str | None, Query()] = None,
) -> AdminDeliveryList:
    deliveries = await gateway.webhooks.all_deliveries(
        DeliveryFilter(user_id=user, endpoint_id=endpoint, state=state),
        before=page.cursor,
        limit=page.to_read,
    )
    return AdminDeliveryList.of(deliveries, page, read=_read)


@router.post(
    "/{delivery_id}/redeliver",
    status_code=202,
    summary="Send a message again",
    responses=problem_responses(DeliveryNotFoundError, EndpointDisabledError),
)
async def redeliver_any(gateway: Gateway, delivery_id: str, actor: Operator) -> AdminDeliveryRead:
    return _read(await gateway.webhooks.redeliver_any(delivery_id, actor=actor))


def _read(delivery: Delivery) -> AdminDeliveryRead:
    return AdminDeliveryRead(
        **dict(read_delivery(delivery)),
        user=delivery.user_id,
        host=None if delivery.url is None else urlsplit(delivery.url).hostname,
    )
