"""Keep of an erased job what is watched for a late success.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "b41e7c6a2f90"
down_revision = "8c2e6f0b93d7"
branch_labels = None
depends_on = None

expands = True  # the release before it shows such a job, of which nothing is left to be seen


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index(
            "ix_jobs_erased_at",
            ["erased_at"],
            unique=False,
            sqlite_where=sa.text("erased_at IS NOT NULL"),
            postgresql_where=sa.text("erased_at IS NOT NULL"),
        )


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_erased_at")
        batch_op.drop_column("erased_at")
