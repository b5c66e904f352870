"""Follow the log of jobs.

The table is made anew, since its primary key changes. What the release before this one writes
meanwhile lacks the user: it is seen by who follows the job, and not by who follows the user.
"""

import sqlalchemy as sa
from alembic import op

revision = "b3ba1887b506"
down_revision = "c255e1c90fd9"
branch_labels = None
depends_on = None

_KEPT = "CREATE TABLE job_events_kept AS SELECT job_id, seq, type, at, data FROM job_events"


def upgrade() -> None:
    op.execute(_KEPT)
    op.drop_table("job_events")
    postgres = op.get_bind().dialect.name == "postgresql"
    transaction = "CAST(CAST(pg_current_xact_id() AS text) AS bigint)" if postgres else "0"
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("xid", sa.BigInteger(), server_default=sa.text(transaction), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Text(), server_default="", nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
        sa.UniqueConstraint("job_id", "seq", name=op.f("uq_job_events_job_id_seq")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("job_events", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_job_events_user_id_xid_id"), ["user_id", "xid", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_job_events_xid_id"), ["xid", "id"], unique=False)
    op.execute(
        "INSERT INTO job_events (xid, job_id, seq, user_id, type, at, data)"
        " SELECT 0, kept.job_id, kept.seq, jobs.user_id, kept.type, kept.at, kept.data"
        " FROM job_events_kept AS kept JOIN jobs ON jobs.id = kept.job_id"
        " ORDER BY kept.at, kept.job_id, kept.seq"
    )
    op.drop_table("job_events_kept")


def downgrade() -> None:
    op.execute(_KEPT)
    op.drop_table("job_events")
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_job_events")),
    )
    op.execute(
        "INSERT INTO job_events (job_id, seq, type, at, data)"
        " SELECT job_id, seq, type, at, data FROM job_events_kept"
    )
    op.drop_table("job_events_kept")
