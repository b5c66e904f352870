"""Turns of users.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "5b0c1f7ad4e2"
down_revision = "850a3f693d3b"
branch_labels = None
depends_on = None

expands = True  # the release before it sends without looking at whose turn it was last


def upgrade() -> None:
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.add_column(sa.Column("turn_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.drop_column("turn_at")
