"""Files that clients uploaded, the jobs that use them, and the copies of outputs."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class FileRow(Base):
    """One row per file, written before its object, so that every object has a row to delete it by.

    While `uploading` nobody sees it. `made_for` names the job whose input held it as a data URI,
    and with which it is deleted. No file is deleted while a job that names it is not final.
    """

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint("state IN ('uploading', 'ready')", name="state_known"),
        CheckConstraint(
            "state = 'uploading' OR (size IS NOT NULL AND sha256 IS NOT NULL"
            " AND media_type IS NOT NULL)",
            name="ready_is_measured",
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    storage_key: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str]
    size: Mapped[int | None]
    sha256: Mapped[str | None]
    media_type: Mapped[str | None]
    made_for: Mapped[str | None] = mapped_column(index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class FilePartRow(Base):
    """The n-th part of an object that is kept here, since there is no other storage."""

    __tablename__ = "file_parts"

    storage_key: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]


class JobFileRow(Base):
    """Where in a job's input a file is named; `pointer` is a JSON pointer, as in error answers."""

    __tablename__ = "job_files"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    pointer: Mapped[str] = mapped_column(primary_key=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), index=True)


class OutputRow(Base):
    """The copy of a job's n-th output: `waiting` to be made, `archived`, or `gone` before it was.

    The storage key is made up with the row, so that an interrupted copy can be overwritten or
    deleted. `lease_token` fences the archiver that works on it. `denials` counts the attempts at
    which the host said that it has no such file.
    """

    __tablename__ = "outputs"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'archived', 'gone')", name="state_known"),
        CheckConstraint("(state = 'waiting') = (due_at IS NOT NULL)", name="due_iff_waiting"),
        CheckConstraint(
            "(state = 'archived') = (size IS NOT NULL AND sha256 IS NOT NULL"
            " AND media_type IS NOT NULL AND archived_at IS NOT NULL)",
            name="archived_is_measured",
        ),
        Index(None, "state", "due_at"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    storage_key: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str]
    attempts: Mapped[int]
    denials: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    size: Mapped[int | None]
    sha256: Mapped[str | None]
    media_type: Mapped[str | None]
    duration_ms: Mapped[int | None]
    codec: Mapped[str | None]
    created_at: Mapped[datetime]
    archived_at: Mapped[datetime | None]


class DiscardRow(Base):
    """An object to delete, written in the transaction that deletes what referred to it.

    The object is deleted at once, and again at `due_at`, when nobody can be writing it any more;
    then the row goes, too.
    """

    __tablename__ = "discards"

    storage_key: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime] = mapped_column(index=True)
