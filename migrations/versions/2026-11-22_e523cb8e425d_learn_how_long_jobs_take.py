"""Learn how long jobs take.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "e523cb8e425d"
down_revision = "d665e5aaf07a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "durations",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input_class", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("bucket", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "model", "input_class", "phase", "bucket", name=op.f("pk_durations")
        ),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("input_class", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("input_class")

    op.drop_table("durations")
