"""Count denied copies.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "5c1e0d7ab3f4"
down_revision = "5b0c1f7ad4e2"
branch_labels = None
depends_on = None

expands = True  # the release before it counts attempts, and leaves this alone


def upgrade() -> None:
    with op.batch_alter_table("outputs", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("denials", sa.BigInteger(), server_default="0", nullable=False)
        )


def downgrade() -> None:
    with op.batch_alter_table("outputs", schema=None) as batch_op:
        batch_op.drop_column("denials")
