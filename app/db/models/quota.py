"""What users and keys have used, and what it costs."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, partial_index


class AccountRow(Base):
    """What a user (`user:<id>`) or a key (`key:<id>`) has used and holds in the open windows.

    The sums are the ledger's, kept here so that a decision reads one row; its lock orders rivals.
    The first request after the end of a window begins a new one.
    """

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint(
            "day_jobs_held >= 0 AND month_jobs_held >= 0"
            " AND day_milliseconds_held >= 0 AND month_milliseconds_held >= 0"
            " AND day_micro_usd_held >= 0 AND month_micro_usd_held >= 0",
            name="holds_not_negative",
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    arrival_us: Mapped[int]
    day_start: Mapped[datetime | None]
    day_jobs_used: Mapped[int]
    day_jobs_held: Mapped[int]
    day_milliseconds_used: Mapped[int]
    day_milliseconds_held: Mapped[int]
    day_micro_usd_used: Mapped[int]
    day_micro_usd_held: Mapped[int]
    month_start: Mapped[datetime | None]
    month_jobs_used: Mapped[int]
    month_jobs_held: Mapped[int]
    month_milliseconds_used: Mapped[int]
    month_milliseconds_held: Mapped[int]
    month_micro_usd_used: Mapped[int]
    month_micro_usd_held: Mapped[int]


class LedgerRow(Base):
    """One entry of the append-only ledger; it outlives its job, its user and its key.

    `held_at` decides the window: it is when the job was accepted, except for a late charge, which
    counts when it is made. An unknown amount is NULL, never zero.
    """

    __tablename__ = "ledger"
    __table_args__ = (
        CheckConstraint("kind IN ('hold', 'settle', 'release', 'late_charge')", name="kind_known"),
        partial_index(
            "uq_ledger_job_id_ended", "job_id", where="kind IN ('settle', 'release')", unique=True
        ),
        Index(None, "user_id", "held_at"),
        Index(None, "key_id", "held_at"),
        partial_index(None, "token_id", where="token_id IS NOT NULL"),
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    key_id: Mapped[str]
    token_id: Mapped[str | None]
    model: Mapped[str]
    at: Mapped[datetime]
    held_at: Mapped[datetime]
    milliseconds: Mapped[int | None]
    micro_usd: Mapped[int | None]


class ShadowFindingRow(Base):
    """How often a shadow limit would have refused a job on one day (UTC); `id` sorts by the day."""

    __tablename__ = "shadow_findings"

    id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str]
    user_id: Mapped[str] = mapped_column(index=True)
    account: Mapped[str]
    limit_name: Mapped[str]
    count: Mapped[int]
    last_at: Mapped[datetime]
    last_job_id: Mapped[str]


class PriceRow(Base):
    """One line of the operator's price table; `conditions` are the values an input must have."""

    __tablename__ = "prices"

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    base_price_usd: Mapped[str]
    price_unit: Mapped[str]
    conditions: Mapped[dict[str, str] | None]
