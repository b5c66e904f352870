"""Who may use the gateway."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class UserRow(Base):
    """`limits` override the plan's, name by name; without a plan the default one applies.

    The id of a user whom a service acts for begins with the id of that service's own user and `/`.
    `turn_at` is when a job of the user was last sent.
    """

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    plan_name: Mapped[str | None] = mapped_column(ForeignKey("plans.name"), index=True)
    limits: Mapped[dict[str, Any] | None]
    disabled: Mapped[bool]
    created_at: Mapped[datetime]
    turn_at: Mapped[datetime | None]
