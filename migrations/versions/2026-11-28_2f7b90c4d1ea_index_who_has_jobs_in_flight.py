"""Index who has jobs in flight.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

from alembic import op

revision = "2f7b90c4d1ea"
down_revision = "7a1d2c9e4b58"
branch_labels = None
depends_on = None

expands = True  # the release before it does not see an index


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_jobs_state_user_id_key_id", ["state", "user_id", "key_id"], unique=False
        )


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_state_user_id_key_id")
