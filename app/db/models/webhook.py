"""Who is told of a job's events, with which secret, and how each delivery went."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, partial_index


class WebhookEndpointRow(Base):
    """A receiver of one user's events. Secrets are sealed: a copy of the table cannot sign.

    `failing_since` is the first failure after the last success. After a rotation the previous
    secret also signs, until `previous_expires_at`.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint(
            "disabled_reason IN ('owner', 'gone', 'failing')", name="disabled_reason_known"
        ),
        Index(None, "user_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    url: Mapped[str]
    events: Mapped[list[str]]
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_expires_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime]


class WebhookSecretRow(Base):
    """The secret for the webhook URLs that a user's jobs bring along; sealed, as above."""

    __tablename__ = "webhook_secrets"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class WebhookDeliveryRow(Base):
    """One message for one receiver, written with the event that it reports.

    Its id is the `webhook-id` of every attempt. Without an endpoint it goes to the job's own URL,
    and without a job it is a test. A claim moves `due_at` to the end of the claimer's lease, which
    `lease_token` names: an outcome counts only while that lease is held. `step` is the number of
    the next retry; `lane` keeps slow receivers from holding up the others.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="state_known"),
        CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="due_iff_pending"),
        CheckConstraint("endpoint_id IS NOT NULL OR job_id IS NOT NULL", name="goes_somewhere"),
        partial_index("ix_webhook_deliveries_due_at", "due_at", where="due_at IS NOT NULL"),
        Index(None, "endpoint_id", "id"),
        Index(None, "user_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    endpoint_id: Mapped[str | None] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE")
    )
    job_id: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), index=True
    )
    lane: Mapped[str]
    type: Mapped[str]
    event_at: Mapped[datetime]
    state: Mapped[str]
    attempts: Mapped[int]
    step: Mapped[int]
    due_at: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(index=True)


class WebhookAttemptRow(Base):
    """One attempt: what the receiver answered, or a code for why it did not."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    milliseconds: Mapped[int]
    status_code: Mapped[int | None]
    error: Mapped[str | None]
    body: Mapped[str | None]
