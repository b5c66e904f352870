"""Let replicas share the time of a rate.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "c4a1da55b4c0"
down_revision = "b41e7c6a2f90"
branch_labels = None
depends_on = None

expands = True


def upgrade() -> None:
    op.add_column(
        "lanes", sa.Column("taken_us", sa.BigInteger(), server_default="0", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("lanes", "taken_us")
