"""/v1/webhook-endpoints: who is told of events, and how the deliveries went."""

from typing import Annotated, Literal

from fastapi import Depends, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.api.body import BODY_PROBLEMS, CreateBody, body_of, parse
from app.api.deps import Gateway, JsonBody, OptionalJsonBody
from app.api.paging import Listed, Page, page_of_ids
from app.api.problems import problem_responses
from app.api.routing import caller_router
from app.api.webhook_secret import Receiver, Rotate, overlap_of
from app.api.webhook_wire import DeliveryRead, read_delivery
from app.jobs.wire import Instant
from app.webhooks.addresses import MAX_URL_CHARACTERS
from app.webhooks.errors import (
    DeliveryNotFoundError,
    EndpointDisabledError,
    EndpointNotFoundError,
    TooManyEndpointsError,
)
from app.webhooks.events import DEFAULT_EVENTS, EventType
from app.webhooks.models import DisabledReason, Endpoint, Secret
from app.webhooks.service import EndpointChanges

router = caller_router("/v1", tag="webhooks")


def _each_once(events: list[EventType]) -> list[EventType]:
    return list(dict.fromkeys(events))


Url = Annotated[str, StringConstraints(max_length=MAX_URL_CHARACTERS)]
Events = Annotated[list[EventType], Field(min_length=1), AfterValidator(_each_once)]


class EndpointCreate(CreateBody):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"url": "https://example.com/hooks"}}
    )

    url: Url = Field(
        description="https on the public internet, or an address that the operator allows."
    )
    events: Events = Field(
        default=list(DEFAULT_EVENTS),
        description="Default: every final state, and `job.submit_unknown`.",
    )


class EndpointPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: Url = ""
    events: Events = []
    disabled: Annotated[bool, Field(strict=True)] = False


class EndpointRead(BaseModel):
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    id: str
    url: str
    events: list[str]
    disabled: bool
    disabled_reason: DisabledReason | None = Field(
        description="`gone`: it answered 410; `failing`: it has failed for five days."
    )
    failing_since: Instant | None = Field(description="The first failure after the last success.")
    previous_secret_expires_at: Instant | None = Field(
        description="When the secret before the last rotation stops, or stopped, signing."
    )
    created_at: Instant


class EndpointSecretRead(EndpointRead):
    secret: str = Field(
        description="Verifies messages sent to this endpoint; it cannot be shown again."
    )


class EndpointList(Listed[EndpointRead]):
    pass


class DeliveryList(Listed[DeliveryRead]):
    pass


_EndpointPage = Annotated[Page, Depends(page_of_ids("endpoint"))]
_DeliveryPage = Annotated[Page, Depends(page_of_ids("msg"))]


@router.post(
    "/webhook-endpoints",
    status_code=201,
    summary="Create a webhook endpoint",
    description=(
        "The `secret` is shown only now. A service's endpoint also hears of its users' jobs, each "
        "with its `user`."
    ),
    openapi_extra=body_of(EndpointCreate),
    responses=problem_responses(*BODY_PROBLEMS, TooManyEndpointsError),
)
async def create_webhook_endpoint(
    gateway: Gateway, caller: Receiver, body: JsonBody, response: Response
) -> EndpointSecretRead:
    asked = parse(EndpointCreate, body)
    endpoint, secret = await gateway.webhooks.create(
        user_id=caller.user_id, url=asked.url, events=[event.value for event in asked.events]
    )
    response.headers["Location"] = f"{gateway.base_path}/v1/webhook-endpoints/{endpoint.id}"
    return _read_secret(endpoint, secret)


@router.get("/webhook-endpoints", summary="List your webhook endpoints, newest first")
async def list_webhook_endpoints(
    gateway: Gateway, caller: Receiver, page: _EndpointPage
) -> EndpointList:
    endpoints = await gateway.webhooks.page(
        user_id=caller.user_id, before=page.cursor, limit=page.to_read
    )
    return EndpointList.of(endpoints, page, read=_read)


@router.get(
    "/webhook-endpoints/{endpoint_id}",
    summary="Read a webhook endpoint",
    responses=problem_responses(EndpointNotFoundError),
)
async def get_webhook_endpoint(
    gateway: Gateway, caller: Receiver, endpoint_id: str
) -> EndpointRead:
    return _read(await gateway.webhooks.get(endpoint_id, user_id=caller.user_id))


@router.patch(
    "/webhook-endpoints/{endpoint_id}",
    summary="Change a webhook endpoint",
    description='Absent fields stay as they are. `{"disabled": false}` enables a disabled endpoint,'
    " whoever disabled it; messages of jobs that ended meanwhile can be redelivered.",
    openapi_extra=body_of(EndpointPatch),
    responses=problem_responses(*BODY_PROBLEMS, EndpointNotFoundError),
)
async def change_webhook_endpoint(
    gateway: Gateway, caller: Receiver, endpoint_id: str, body: JsonBody
) -> EndpointRead:
    asked = parse(EndpointPatch, body).model_dump(mode="json", exclude_unset=True)
    changes = EndpointChanges(**asked)  # type: ignore[typeddict-item]
    return _read(await gateway.webhooks.change(endpoint_id, changes, user_id=caller.user_id))


@router.delete(
    "/webhook-endpoints/{endpoint_id}",
    status_code=204,
    summary="Delete a webhook endpoint with its deliveries",
    responses=problem_responses(EndpointNotFoundError),
)
async def delete_webhook_endpoint(gateway: Gateway, caller: Receiver, endpoint_id: str) -> None:
    await gateway.webhooks.delete(endpoint_id, user_id=caller.user_id)


@router.post(
    "/webhook-endpoints/{endpoint_id}/rotate",
    summary="Give a webhook endpoint a new secret",
    description=(
        "For `overlap_seconds` each message carries signatures by both secrets; any older secret "
        "stops signing."
    ),
    openapi_extra=body_of(Rotate, required=False),
    responses=problem_responses(*BODY_PROBLEMS, EndpointNotFoundError),
)
async def rotate_webhook_endpoint(
    gateway: Gateway, caller: Receiver, endpoint_id: str, body: OptionalJsonBody
) -> EndpointSecretRead:
    endpoint, secret = await gateway.webhooks.rotate(
        endpoint_id, overlap=overlap_of(body), user_id=caller.user_id
    )
    return _read_secret(endpoint, secret)


@router.post(
    "/webhook-endpoints/{endpoint_id}/test",
    status_code=202,
    summary="Send a message of type `webhook.test`",
    responses=problem_responses(EndpointNotFoundError, EndpointDisabledError),
)
async def test_webhook_endpoint(
    gateway: Gateway, caller: Receiver, endpoint_id: str
) -> DeliveryRead:
    return read_delivery(await gateway.webhooks.test(endpoint_id, user_id=caller.user_id))


@router.get(
    "/webhook-endpoints/{endpoint_id}/deliveries",
    summary="List an endpoint's deliveries, done and due, newest first",
    responses=problem_responses(EndpointNotFoundError),
)
async def list_deliveries(
    gateway: Gateway, caller: Receiver, endpoint_id: str, page: _DeliveryPage
) -> DeliveryList:
    deliveries = await gateway.webhooks.deliveries(
        endpoint_id, user_id=caller.user_id, before=page.cursor, limit=page.to_read
    )
    return DeliveryList.of(deliveries, page, read=read_delivery)


@router.post(
    "/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    summary="Send a message again",
    description=(
        "It is sent now, under the same `webhook-id`; if that fails, it is retried like a new one."
    ),
    responses=problem_responses(
        EndpointNotFoundError, DeliveryNotFoundError, EndpointDisabledError
    ),
)
async def redeliver(
    gateway: Gateway, caller: Receiver, endpoint_id: str, delivery_id: str
) -> DeliveryRead:
    return read_delivery(
        await gateway.webhooks.redeliver(
            delivery_id, endpoint_id=endpoint_id, user_id=caller.user_id
        )
    )


def _read_secret(endpoint: Endpoint, secret: Secret) -> EndpointSecretRead:
    return EndpointSecretRead(**dict(_read(endpoint)), secret=secret.secret)


def _read(endpoint: Endpoint) -> EndpointRead:
    return EndpointRead(
        id=endpoint.id,
        url=endpoint.url,
        events=list(endpoint.events),
        disabled=endpoint.disabled_reason is not None,
        disabled_reason=endpoint.disabled_reason,
        failing_since=endpoint.failing_since,
        previous_secret_expires_at=endpoint.previous_expires_at,
        created_at=endpoint.created_at,
    )
