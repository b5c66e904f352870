"""Jobs, their event log and the idempotency keys that made them."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, partial_index


class JobRow(Base):
    """One row per accepted request; `lease_token` fences writers that lost their turn.

    In `submitting` and `submit_unknown` the token names the one attempt that may have reached
    upstream; in `in_queue` and `in_progress` the worker process that polls the job. A job that has
    ended but may still succeed is polled until `watch_until`; `late` says that it did succeed then,
    and whether that was charged. If its owner has erased it meanwhile, only what the watch needs is
    left, nobody sees it, and after the watch it is deleted.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('pending', 'submitting', 'in_queue', 'in_progress',"
            " 'completed', 'failed', 'cancelled', 'submit_unknown')",
            name="state_known",
        ),
        CheckConstraint(
            "(state = 'completed') = (output IS NOT NULL)", name="output_iff_completed"
        ),
        CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name="error_iff_failed"),
        CheckConstraint(
            "(state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name="finished_iff_final",
        ),
        CheckConstraint(
            "state NOT IN ('in_queue', 'in_progress', 'completed')"
            " OR upstream_request_id IS NOT NULL",
            name="followed_has_request_id",
        ),
        CheckConstraint(
            "(state IN ('pending', 'in_queue', 'in_progress') OR watch_until IS NOT NULL)"
            " = (due_at IS NOT NULL)",
            name="due_iff_work_left",
        ),
        CheckConstraint(
            "watch_until IS NULL"
            " OR (state IN ('failed', 'cancelled') AND upstream_request_id IS NOT NULL)",
            name="watched_may_yet_succeed",
        ),
        CheckConstraint(
            "late IS NULL OR (late IN ('charged', 'free') AND state = 'completed')",
            name="late_is_completed",
        ),
        Index(None, "user_id", "id"),
        CheckConstraint("cost_state IN ('held', 'settled', 'released')", name="cost_state_known"),
        Index(None, "state", "due_at"),
        Index(None, "created_at"),
        partial_index("ix_jobs_finished_at", "finished_at", where="finished_at IS NOT NULL"),
        partial_index("ix_jobs_erased_at", "erased_at", where="erased_at IS NOT NULL"),
        Index(None, "state", "user_id", "priority", "id", "key_id"),
        # Few jobs have either, and a search for them must not go through all waiting jobs.
        partial_index(
            "ix_jobs_state_cancel_requested_at",
            "state",
            "cancel_requested_at",
            where="cancel_requested_at IS NOT NULL",
        ),
        partial_index(
            "ix_jobs_state_start_deadline_at",
            "state",
            "start_deadline_at",
            where="start_deadline_at IS NOT NULL",
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    token_id: Mapped[str | None]  # of the client token that asked for it, and may be gone
    model: Mapped[str]
    schema_hash: Mapped[str]
    input: Mapped[dict[str, Any]]
    meta: Mapped[dict[str, str]] = mapped_column("metadata")
    webhook_url: Mapped[str | None]
    traceparent: Mapped[str | None]  # of the request that made it, if it was traced
    output_milliseconds: Mapped[int | None]
    input_class: Mapped[str | None]
    priority: Mapped[int]
    start_deadline_at: Mapped[datetime | None]
    price_micro_usd: Mapped[int | None]
    reported_cost_usd: Mapped[str | None]
    detection_milliseconds: Mapped[int | None]  # from its end upstream until we knew
    cost_state: Mapped[str]

    state: Mapped[str]
    event_seq: Mapped[int]
    attempts: Mapped[int]
    account: Mapped[str | None]  # at RunComfy, set by the first attempt; null: `default`
    upstream_request_id: Mapped[str | None] = mapped_column(index=True)
    queue_position: Mapped[int | None]
    output: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    cancel_requested_at: Mapped[datetime | None]
    cancel_outcome: Mapped[str | None]
    late: Mapped[str | None]
    refusals: Mapped[int] = mapped_column(server_default="0")
    lost_polls: Mapped[int] = mapped_column(server_default="0")
    lost_since: Mapped[datetime | None]
    watch_until: Mapped[datetime | None]

    due_at: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]

    created_at: Mapped[datetime]
    submitted_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]


class JobEventRow(Base):
    """What happened to a job, numbered from 1 under the job's row lock; never changed.

    `xid` is the transaction that wrote it, 0 on SQLite: ids are taken before they are committed, so
    on Postgres a reader that relied on ids alone would miss events that are committed late.
    """

    __tablename__ = "job_events"
    __table_args__ = (
        UniqueConstraint("job_id", "seq"),
        Index(None, "xid", "id"),
        Index(None, "user_id", "xid", "id"),
        {"sqlite_autoincrement": True},  # the number of an erased event is never reused
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    xid: Mapped[int]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    seq: Mapped[int]
    user_id: Mapped[str]
    type: Mapped[str]
    at: Mapped[datetime]
    data: Mapped[dict[str, Any] | None]


class IdempotencyKeyRow(Base):
    """Which job a user's key made, and from which body, until the key expires."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    # No foreign key: the key outlives a job that its owner erased.
    job_id: Mapped[str] = mapped_column(index=True)
    fingerprint: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)
