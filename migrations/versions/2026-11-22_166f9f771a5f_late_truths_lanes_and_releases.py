"""Late truths, lanes and releases."""

import sqlalchemy as sa
from alembic import op

revision = "166f9f771a5f"
down_revision = "b3ba1887b506"
branch_labels = None
depends_on = None

expands = False  # the release before it would not understand a job that has ended and is due

_DUE = "due_iff_work_left"
_DUE_BEFORE = "(state IN ('pending', 'in_queue', 'in_progress')) = (due_at IS NOT NULL)"
_DUE_AFTER = (
    "(state IN ('pending', 'in_queue', 'in_progress') OR watch_until IS NOT NULL)"
    " = (due_at IS NOT NULL)"
)
_NEW = {
    "watched_may_yet_succeed": (
        "watch_until IS NULL"
        " OR (state IN ('failed', 'cancelled') AND upstream_request_id IS NOT NULL)"
    ),
    "late_is_completed": "late IS NULL OR (late IN ('charged', 'free') AND state = 'completed')",
}


def upgrade() -> None:
    op.create_table(
        "schema_releases",
        sa.Column("revision", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_schema_releases")),
    )
    with op.batch_alter_table("budgets") as budgets:
        budgets.add_column(sa.Column("reason", sa.Text(), nullable=True))
        budgets.add_column(sa.Column("closed_until", sa.DateTime(timezone=True), nullable=True))
        budgets.add_column(sa.Column("trips", sa.BigInteger(), server_default="0", nullable=False))
        budgets.add_column(sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True))

    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("late", sa.Text(), nullable=True))
        jobs.add_column(sa.Column("refusals", sa.BigInteger(), server_default="0", nullable=False))
        jobs.add_column(
            sa.Column("lost_polls", sa.BigInteger(), server_default="0", nullable=False)
        )
        jobs.add_column(sa.Column("lost_since", sa.DateTime(timezone=True), nullable=True))
        jobs.add_column(sa.Column("watch_until", sa.DateTime(timezone=True), nullable=True))
        jobs.drop_constraint(op.f(f"ck_jobs_{_DUE}"))
        for name, rule in ({_DUE: _DUE_AFTER} | _NEW).items():
            jobs.create_check_constraint(op.f(f"ck_jobs_{name}"), sa.text(rule))


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        for name in (_DUE, *_NEW):
            jobs.drop_constraint(op.f(f"ck_jobs_{name}"))
        jobs.drop_column("watch_until")
        jobs.drop_column("lost_since")
        jobs.drop_column("lost_polls")
        jobs.drop_column("refusals")
        jobs.drop_column("late")
        jobs.create_check_constraint(op.f(f"ck_jobs_{_DUE}"), sa.text(_DUE_BEFORE))

    with op.batch_alter_table("budgets") as budgets:
        budgets.drop_column("changed_at")
        budgets.drop_column("trips")
        budgets.drop_column("closed_until")
        budgets.drop_column("reason")

    op.drop_table("schema_releases")
