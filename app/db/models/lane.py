"""Rates, turns and switches that all replicas share."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class SwitchRow(Base):
    """What operators can switch for all replicas; a switch without a row is off."""

    __tablename__ = "switches"

    name: Mapped[str] = mapped_column(primary_key=True)
    is_on: Mapped[bool]


class LaneRow(Base):
    """A shared rate by GCRA: its theoretical arrival time, microseconds since the epoch.

    `taken_us` is when it was last taken from, by the clock furthest ahead. Locking the row is
    also how replicas take turns: `dispatch` is locked while free places are counted and filled.
    `dispatch` and `polls` are lanes to upstream; several accounts each have two of their own within
    these, such as `polls/main`. A lane is closed until `closed_until` because of `reason`; `trips`
    counts how often in a row, `changed_at` is when it last closed or opened.
    """

    __tablename__ = "lanes"

    name: Mapped[str] = mapped_column(primary_key=True)
    arrival_us: Mapped[int]
    taken_us: Mapped[int] = mapped_column(server_default="0")
    reason: Mapped[str | None]
    closed_until: Mapped[datetime | None]
    trips: Mapped[int] = mapped_column(server_default="0")
    changed_at: Mapped[datetime | None]
