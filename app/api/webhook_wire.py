"""A delivery as owners of endpoints and operators see it."""

from typing import Literal

from pydantic import BaseModel, Field

from app.jobs.wire import Instant
from app.webhooks.models import Delivery, DeliveryState


class AttemptRead(BaseModel):
    at: Instant
    duration_ms: int
    status_code: int | None
    error: str | None = Field(
        description="Why it failed: `status`, `redirect`, `timeout`, `unreachable`,"
        " `not_public`, `no_secret`, `endpoint_disabled`, `user_disabled` or `internal`."
    )
    body: str | None = Field(description="The first kilobyte of the answer.")


class DeliveryRead(BaseModel):
    object: Literal["webhook_delivery"] = "webhook_delivery"
    id: str = Field(description="The `webhook-id` of every attempt.")
    endpoint: str | None = Field(description="Null where a job named its own `webhook_url`.")
    job: str | None = Field(description="Null for a test.")
    type: str
    state: DeliveryState
    attempts_made: int
    attempts: list[AttemptRead] = Field(description="The latest twenty, in order.")
    next_attempt_at: Instant | None
    created_at: Instant


def read_delivery(delivery: Delivery) -> DeliveryRead:
    return DeliveryRead(
        id=delivery.id,
        endpoint=delivery.endpoint_id,
        job=delivery.job_id,
        type=delivery.type,
        state=delivery.state,
        attempts_made=delivery.attempts_made,
        attempts=[
            AttemptRead(
                at=attempt.at,
                duration_ms=attempt.milliseconds,
                status_code=attempt.status_code,
                error=attempt.error,
                body=attempt.body,
            )
            for attempt in delivery.attempts
        ],
        next_attempt_at=delivery.due_at,
        created_at=delivery.created_at,
    )
