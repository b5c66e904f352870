"""Plans: which models and how much of them."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, partial_index


class PlanRow(Base):
    """`limits` maps a limit's name to `{"limit": "10", "mode": "enforce"}`; at most one default."""

    __tablename__ = "plans"
    __table_args__ = (
        partial_index("uq_plans_is_default", "is_default", where="is_default", unique=True),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    timezone: Mapped[str]
    is_default: Mapped[bool]
    models: Mapped[list[str] | None]
    limits: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
