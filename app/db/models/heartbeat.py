"""Which processes are working, and when each last said so."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class HeartbeatRow(Base):
    """One per process with workers; `beat_at` is when these were last known to look for work."""

    __tablename__ = "heartbeats"

    worker: Mapped[str] = mapped_column(primary_key=True)
    beat_at: Mapped[datetime]
