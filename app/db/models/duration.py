"""How long jobs took."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class DurationRow(Base):
    """One bucket of one kind's histogram; weights are added up and grow with time."""

    __tablename__ = "durations"

    model: Mapped[str] = mapped_column(primary_key=True)
    input_class: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weight: Mapped[float]
    seen_at: Mapped[datetime]
