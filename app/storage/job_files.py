"""The files that a job's input names: locked, then linked, in the transaction that accepts it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import FileRow, JobFileRow, JobRow


@dataclass(frozen=True, slots=True)
class FileUse:
    """A file that a job's input names, and where."""

    pointer: str
    file_id: str


def is_in_use() -> ColumnElement[bool]:
    """The condition for files that an unfinished job names."""
    return (
        select(JobFileRow.job_id)
        .join(JobRow, JobRow.id == JobFileRow.job_id)
        .where(JobFileRow.file_id == FileRow.id, JobRow.finished_at.is_(None))
        .exists()
    )


def is_over(at: datetime) -> ColumnElement[bool]:
    """The condition for files that may be deleted: expired, and not in use any more."""
    return and_(FileRow.expires_at <= at, ~is_in_use())


async def lock_usable(
    tx: AsyncConnection, file_ids: Mapping[str, Sequence[FileUse]], *, at: datetime
) -> set[tuple[str, str]]:
    """Return (file, user) for those still usable, locked against the pruner until commit.

    `file_ids` is keyed by job: a file still `uploading` counts only for the job it is made for.
    """
    wanted = sorted({use.file_id for uses in file_ids.values() for use in uses})
    found = await tx.execute(
        select(FileRow.id, FileRow.user_id)
        .where(
            FileRow.id.in_(wanted),
            ~is_over(at),
            or_(
                FileRow.state == "ready",
                and_(FileRow.made_for.in_(sorted(file_ids)), FileRow.size.is_not(None)),
            ),
        )
        .order_by(FileRow.id)
        .with_for_update(read=True, key_share=True)
    )
    return {(row.id, row.user_id) for row in found}


async def link(
    tx: AsyncConnection, uses: Mapping[str, Sequence[FileUse]], *, expires_at: datetime
) -> None:
    """Link newly written jobs to their files; files made for them are kept from now on."""
    await tx.execute(
        update(FileRow)
        .where(FileRow.made_for.in_(sorted(uses)), FileRow.state == "uploading")
        .values(state="ready", expires_at=expires_at)
    )
    await tx.execute(
        insert(JobFileRow),
        [
            {"job_id": job_id, "pointer": use.pointer, "file_id": use.file_id}
            for job_id, some in uses.items()
            for use in some
        ],
    )
