"""Rates, turns and switches that all replicas share."""

from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class SwitchRow(Base):
    """What operators switch for all replicas; a switch without a row is off."""

    __tablename__ = "switches"

    name: Mapped[str] = mapped_column(primary_key=True)
    is_on: Mapped[bool]


class BudgetRow(Base):
    """A shared rate by GCRA: its theoretical arrival time, microseconds since the epoch.

    Locking the row is also how replicas take turns: `dispatch` is locked while free places are
    counted and filled.
    """

    __tablename__ = "budgets"

    name: Mapped[str] = mapped_column(primary_key=True)
    arrival_us: Mapped[int]
