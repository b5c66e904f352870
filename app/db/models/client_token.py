"""The credentials of browser apps."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class ClientTokenRow(Base):
    """One row per live token; revoking it deletes the row.

    `key_id` is the key that made it and `key_secret_hash` the secret which that key had then: the
    token ends with either. `user_id` is whom it stands for. With a `job_id` it reads only that job.
    """

    __tablename__ = "client_tokens"
    __table_args__ = (
        Index(None, "user_id", "id"),
        CheckConstraint("max_jobs > 0", name="max_jobs_positive"),
        CheckConstraint("max_micro_usd > 0", name="max_micro_usd_positive"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[str]
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    key_secret_hash: Mapped[str]
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    scopes: Mapped[list[str]]
    models: Mapped[list[str] | None]
    job_id: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), index=True
    )
    max_jobs: Mapped[int | None]
    max_micro_usd: Mapped[int | None]
    origin: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
