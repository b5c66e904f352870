"""Which releases the present schema serves."""

from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class SchemaReleaseRow(Base):
    """A revision whose release runs on this schema: the present one, and those it expands."""

    __tablename__ = "schema_releases"

    revision: Mapped[str] = mapped_column(primary_key=True)
