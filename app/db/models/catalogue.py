"""The catalogues that were read from RunComfy, each in its last good state."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class CatalogueRow(Base):
    """One per upstream, so that a sandbox's prices never meet real jobs.

    `version` rises with every change of the models; 0 means that none was read yet. Whoever
    advances `due_at` gets the turn to read upstream.
    """

    __tablename__ = "catalogues"

    source: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    due_at: Mapped[datetime]
    synced_at: Mapped[datetime | None]


class CatalogueModelRow(Base):
    """A model as last read; one that upstream has withdrawn stays, but is not offered."""

    __tablename__ = "catalogue_models"
    __table_args__ = (
        CheckConstraint("(base_price_usd IS NULL) = (price_unit IS NULL)", name="price_iff_unit"),
    )

    source: Mapped[str] = mapped_column(ForeignKey("catalogues.source"), primary_key=True)
    model_id: Mapped[str] = mapped_column(primary_key=True)
    display_name: Mapped[str]
    output_kind: Mapped[str]
    listing: Mapped[dict[str, Any]]
    input_schema: Mapped[dict[str, Any]]
    schema_hash: Mapped[str]
    base_price_usd: Mapped[str | None]
    price_unit: Mapped[str | None]
    synced_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
