"""Let idempotency keys outlive erased jobs.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

from alembic import op

revision = "bfb52e02e868"
down_revision = "02b4efb39b06"
branch_labels = None
depends_on = None

expands = True  # True: the release before this one runs on the new schema too


def upgrade() -> None:
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_idempotency_keys_job_id_jobs"), type_="foreignkey")


def downgrade() -> None:
    op.execute("DELETE FROM idempotency_keys WHERE job_id NOT IN (SELECT id FROM jobs)")
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.create_foreign_key(
            batch_op.f("fk_idempotency_keys_job_id_jobs"),
            "jobs",
            ["job_id"],
            ["id"],
            ondelete="CASCADE",
            initially="DEFERRED",
            deferrable=True,
        )
