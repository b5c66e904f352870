"""Jobs, their log, and what sends and follows them.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "c85e1b7264da"
down_revision = "7f3a9d51c0e2"
branch_labels = None
depends_on = None

expands = False  # no release is older


def upgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    transaction = "CAST(CAST(pg_current_xact_id() AS text) AS bigint)" if postgres else "0"
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("schema_hash", sa.Text(), nullable=False),
        sa.Column("input", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("webhook_url", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("output_milliseconds", sa.BigInteger(), nullable=True),
        sa.Column("input_class", sa.Text(), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("start_deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("price_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("reported_cost_usd", sa.Text(), nullable=True),
        sa.Column("detection_milliseconds", sa.BigInteger(), nullable=True),
        sa.Column("cost_state", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("upstream_request_id", sa.Text(), nullable=True),
        sa.Column("queue_position", sa.BigInteger(), nullable=True),
        sa.Column("output", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_outcome", sa.Text(), nullable=True),
        sa.Column("late", sa.Text(), nullable=True),
        sa.Column("refusals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lost_polls", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lost_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("watch_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'completed') = (output IS NOT NULL)",
            name=op.f("ck_jobs_output_iff_completed"),
        ),
        sa.CheckConstraint(
            "(state = 'failed') = (error IS NOT NULL)", name=op.f("ck_jobs_error_iff_failed")
        ),
        sa.CheckConstraint(
            "(state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_jobs_finished_iff_final"),
        ),
        sa.CheckConstraint(
            "(state IN ('pending', 'in_queue', 'in_progress') OR watch_until IS NOT NULL) = (due_at IS NOT NULL)",
            name=op.f("ck_jobs_due_iff_work_left"),
        ),
        sa.CheckConstraint(
            "cost_state IN ('held', 'settled', 'released')", name=op.f("ck_jobs_cost_state_known")
        ),
        sa.CheckConstraint(
            "late IS NULL OR (late IN ('charged', 'free') AND state = 'completed')",
            name=op.f("ck_jobs_late_is_completed"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'submitting', 'in_queue', 'in_progress', 'completed', 'failed', 'cancelled', 'submit_unknown')",
            name=op.f("ck_jobs_state_known"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('in_queue', 'in_progress', 'completed') OR upstream_request_id IS NOT NULL",
            name=op.f("ck_jobs_followed_has_request_id"),
        ),
        sa.CheckConstraint(
            "watch_until IS NULL OR (state IN ('failed', 'cancelled') AND upstream_request_id IS NOT NULL)",
            name=op.f("ck_jobs_watched_may_yet_succeed"),
        ),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_jobs_key_id_api_keys")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_jobs_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    # The order matters: of two that cost the same, as on a new table, Postgres takes the later.
    op.create_index(op.f("ix_jobs_state_due_at"), "jobs", ["state", "due_at"])
    op.create_index(op.f("ix_jobs_upstream_request_id"), "jobs", ["upstream_request_id"])
    op.create_index(op.f("ix_jobs_user_id_id"), "jobs", ["user_id", "id"])
    op.create_index(op.f("ix_jobs_created_at"), "jobs", ["created_at"])
    op.create_index(
        "ix_jobs_finished_at",
        "jobs",
        ["finished_at"],
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_state_cancel_requested_at",
        "jobs",
        ["state", "cancel_requested_at"],
        sqlite_where=sa.text("cancel_requested_at IS NOT NULL"),
        postgresql_where=sa.text("cancel_requested_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_state_start_deadline_at",
        "jobs",
        ["state", "start_deadline_at"],
        sqlite_where=sa.text("start_deadline_at IS NOT NULL"),
        postgresql_where=sa.text("start_deadline_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_jobs_state_user_id_priority_id_key_id"),
        "jobs",
        ["state", "user_id", "priority", "id", "key_id"],
    )
    op.create_index(
        "ix_jobs_erased_at",
        "jobs",
        ["erased_at"],
        sqlite_where=sa.text("erased_at IS NOT NULL"),
        postgresql_where=sa.text("erased_at IS NOT NULL"),
    )
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("xid", sa.BigInteger(), server_default=sa.text(transaction), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
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
    op.create_index(op.f("ix_job_events_user_id_xid_id"), "job_events", ["user_id", "xid", "id"])
    op.create_index(op.f("ix_job_events_xid_id"), "job_events", ["xid", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotency_keys_user_id_users")
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"])
    op.create_index(op.f("ix_idempotency_keys_job_id"), "idempotency_keys", ["job_id"])
    op.create_table(
        "client_tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("key_secret_hash", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("models", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("max_jobs", sa.BigInteger(), nullable=True),
        sa.Column("max_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("max_jobs > 0", name=op.f("ck_client_tokens_max_jobs_positive")),
        sa.CheckConstraint(
            "max_micro_usd > 0", name=op.f("ck_client_tokens_max_micro_usd_positive")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_client_tokens_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["api_keys.id"],
            name=op.f("fk_client_tokens_key_id_api_keys"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_client_tokens_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_tokens")),
    )
    op.create_index(op.f("ix_client_tokens_expires_at"), "client_tokens", ["expires_at"])
    op.create_index(op.f("ix_client_tokens_job_id"), "client_tokens", ["job_id"])
    op.create_index(op.f("ix_client_tokens_key_id"), "client_tokens", ["key_id"])
    op.create_index(op.f("ix_client_tokens_user_id_id"), "client_tokens", ["user_id", "id"])
    op.create_table(
        "lanes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("arrival_us", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("closed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trips", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lanes")),
    )
    op.create_table(
        "durations",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input_class", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("bucket", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "model", "input_class", "phase", "bucket", name=op.f("pk_durations")
        ),
    )


def downgrade() -> None:
    op.drop_table("durations")
    op.drop_table("lanes")
    op.drop_table("client_tokens")
    op.drop_table("idempotency_keys")
    op.drop_table("job_events")
    op.drop_table("jobs")
