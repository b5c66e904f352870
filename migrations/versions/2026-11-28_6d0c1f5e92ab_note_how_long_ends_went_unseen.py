"""Note how long ends went unseen.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "6d0c1f5e92ab"
down_revision = "5c1e0d7ab3f4"
branch_labels = None
depends_on = None

expands = True  # the release before it leaves the column empty


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("detection_milliseconds", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("detection_milliseconds")
