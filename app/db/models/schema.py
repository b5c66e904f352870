"""Which releases can run on the present schema."""

from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class SchemaReleaseRow(Base):
    """A revision whose release can run on this schema: the present one, or one that it expands."""

    __tablename__ = "schema_releases"

    revision: Mapped[str] = mapped_column(primary_key=True)
