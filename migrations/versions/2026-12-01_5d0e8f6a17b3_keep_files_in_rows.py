"""Keep files in rows.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "5d0e8f6a17b3"
down_revision = "c4a1da55b4c0"
branch_labels = None
depends_on = None

expands = True


def upgrade() -> None:
    op.create_table(
        "file_parts",
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("storage_key", "n", name=op.f("pk_file_parts")),
    )


def downgrade() -> None:
    op.drop_table("file_parts")
