"""Shadow findings.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "850a3f693d3b"
down_revision = "d9832462abc5"
branch_labels = None
depends_on = None

expands = True  # True: the release before this one runs on the new schema too


def upgrade() -> None:
    op.create_table(
        "shadow_findings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("limit_name", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_job_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_findings")),
    )
    with op.batch_alter_table("shadow_findings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_shadow_findings_user_id"), ["user_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("shadow_findings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_shadow_findings_user_id"))

    op.drop_table("shadow_findings")
