"""Count by key in the index of the lines, too.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

from alembic import op

revision = "8c2e6f0b93d7"
down_revision = "2f7b90c4d1ea"
branch_labels = None
depends_on = None

expands = True  # the release before it does not see an index

_LINES = ["state", "user_id", "priority", "id"]


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_jobs_state_user_id_priority_id_key_id", [*_LINES, "key_id"], unique=False
        )
        batch_op.drop_index("ix_jobs_state_user_id_key_id")
        batch_op.drop_index("ix_jobs_state_user_id_priority_id")


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index("ix_jobs_state_user_id_priority_id", _LINES, unique=False)
        batch_op.create_index(
            "ix_jobs_state_user_id_key_id", ["state", "user_id", "key_id"], unique=False
        )
        batch_op.drop_index("ix_jobs_state_user_id_priority_id_key_id")
