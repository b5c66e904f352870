"""Receivers, what is to be delivered to them, and how it went."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

DeliveryState = Literal["pending", "delivered", "failed"]
DisabledReason = Literal["owner", "gone", "failing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    id: str
    user_id: str
    url: str
    events: tuple[str, ...]
    disabled_reason: DisabledReason | None
    failing_since: datetime | None
    previous_expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret in clear text, on its way to somebody who may read it."""

    secret: str
    previous_expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    at: datetime
    milliseconds: int
    status_code: int | None
    error: str | None
    body: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """`url` is where it goes now; None once its receiver is gone."""

    id: str
    user_id: str
    endpoint_id: str | None
    job_id: str | None
    type: str
    state: DeliveryState
    url: str | None
    attempts_made: int
    due_at: datetime | None
    created_at: datetime
    attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLease:
    """One attempt in a worker's hands: its outcome counts only while the row has `token`.

    `obstacle` is why it cannot be sent, if it cannot.
    """

    id: str
    token: str
    lane: str
    user_id: str
    endpoint_id: str | None
    job_id: str | None
    type: str
    event_at: datetime
    attempts_made: int
    step: int
    url: str
    secrets: Sequence[str]
    obstacle: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt went; `due_at` is when the next one is, None after the last."""

    lease: DeliveryLease
    attempt: Attempt
    delivered: bool
    due_at: datetime | None
    gone: bool = False
