"""The credentials of users."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class ApiKeyRow(Base):
    """One row per key; the secret itself is shown once and kept only as its SHA-256.

    After a rotation the previous secret is valid until `previous_expires_at`. `plan_name` is the
    plan of the users that the key makes by acting for them.
    """

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str]
    secret_hash: Mapped[str]
    previous_hash: Mapped[str | None]
    previous_expires_at: Mapped[datetime | None]
    scopes: Mapped[list[str]]
    models: Mapped[list[str] | None]
    limits: Mapped[dict[str, Any] | None]
    plan_name: Mapped[str | None] = mapped_column(ForeignKey("plans.name"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
