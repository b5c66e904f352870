"""Index what is called off.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "7a1d2c9e4b58"
down_revision = "6d0c1f5e92ab"
branch_labels = None
depends_on = None

expands = True  # the release before it does not see an index

_COLUMNS = ("cancel_requested_at", "start_deadline_at")


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        for column in _COLUMNS:
            batch_op.create_index(
                f"ix_jobs_state_{column}",
                ["state", column],
                unique=False,
                sqlite_where=sa.text(f"{column} IS NOT NULL"),
                postgresql_where=sa.text(f"{column} IS NOT NULL"),
            )


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        for column in _COLUMNS:
            batch_op.drop_index(
                f"ix_jobs_state_{column}",
                sqlite_where=sa.text(f"{column} IS NOT NULL"),
                postgresql_where=sa.text(f"{column} IS NOT NULL"),
            )
