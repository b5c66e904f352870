"""Plans, users, keys and limits, and what the operators see.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "7f3a9d51c0e2"
down_revision = None
branch_labels = None
depends_on = None

expands = False  # no release is older


def upgrade() -> None:
    op.create_table(
        "schema_releases",
        sa.Column("revision", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_schema_releases")),
    )
    op.create_table(
        "switches",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_switches")),
    )
    op.create_table(
        "heartbeats",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_heartbeats")),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("after", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "plans",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("models", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("limits", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_plans")),
    )
    op.create_index(
        "uq_plans_is_default",
        "plans",
        ["is_default"],
        unique=True,
        sqlite_where=sa.text("is_default"),
        postgresql_where=sa.text("is_default"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("plan_name", sa.Text(), nullable=True),
        sa.Column("limits", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("turn_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["plan_name"], ["plans.name"], name=op.f("fk_users_plan_name_plans")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index(op.f("ix_users_plan_name"), "users", ["plan_name"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=True),
        sa.Column("previous_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("models", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("limits", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("plan_name", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["plan_name"], ["plans.name"], name=op.f("fk_api_keys_plan_name_plans")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_plan_name"), "api_keys", ["plan_name"])
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"])
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("arrival_us", sa.BigInteger(), nullable=False),
        sa.Column("day_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("day_jobs_used", sa.BigInteger(), nullable=False),
        sa.Column("day_jobs_held", sa.BigInteger(), nullable=False),
        sa.Column("day_milliseconds_used", sa.BigInteger(), nullable=False),
        sa.Column("day_milliseconds_held", sa.BigInteger(), nullable=False),
        sa.Column("day_micro_usd_used", sa.BigInteger(), nullable=False),
        sa.Column("day_micro_usd_held", sa.BigInteger(), nullable=False),
        sa.Column("month_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("month_jobs_used", sa.BigInteger(), nullable=False),
        sa.Column("month_jobs_held", sa.BigInteger(), nullable=False),
        sa.Column("month_milliseconds_used", sa.BigInteger(), nullable=False),
        sa.Column("month_milliseconds_held", sa.BigInteger(), nullable=False),
        sa.Column("month_micro_usd_used", sa.BigInteger(), nullable=False),
        sa.Column("month_micro_usd_held", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "day_jobs_held >= 0 AND month_jobs_held >= 0 AND day_milliseconds_held >= 0 AND month_milliseconds_held >= 0 AND day_micro_usd_held >= 0 AND month_micro_usd_held >= 0",
            name=op.f("ck_accounts_holds_not_negative"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "ledger",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=True),
        sa.Column("micro_usd", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('hold', 'settle', 'release', 'late_charge')",
            name=op.f("ck_ledger_kind_known"),
        ),
        sa.PrimaryKeyConstraint("job_id", "kind", name=op.f("pk_ledger")),
    )
    op.create_index(op.f("ix_ledger_key_id_held_at"), "ledger", ["key_id", "held_at"])
    op.create_index(op.f("ix_ledger_user_id_held_at"), "ledger", ["user_id", "held_at"])
    op.create_index(
        "uq_ledger_job_id_ended",
        "ledger",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("kind IN ('settle', 'release')"),
        postgresql_where=sa.text("kind IN ('settle', 'release')"),
    )
    op.create_index(
        op.f("ix_ledger_token_id"),
        "ledger",
        ["token_id"],
        sqlite_where=sa.text("token_id IS NOT NULL"),
        postgresql_where=sa.text("token_id IS NOT NULL"),
    )
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
    op.create_index(op.f("ix_shadow_findings_user_id"), "shadow_findings", ["user_id"])
    op.create_table(
        "prices",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("base_price_usd", sa.Text(), nullable=False),
        sa.Column("price_unit", sa.Text(), nullable=False),
        sa.Column("conditions", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
    )
    op.create_index(op.f("ix_prices_model"), "prices", ["model"])
    op.create_table(
        "catalogues",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_catalogues")),
    )
    op.create_table(
        "catalogue_models",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("output_kind", sa.Text(), nullable=False),
        sa.Column("listing", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("input_schema", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("schema_hash", sa.Text(), nullable=False),
        sa.Column("base_price_usd", sa.Text(), nullable=True),
        sa.Column("price_unit", sa.Text(), nullable=True),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(base_price_usd IS NULL) = (price_unit IS NULL)",
            name=op.f("ck_catalogue_models_price_iff_unit"),
        ),
        sa.ForeignKeyConstraint(
            ["source"], ["catalogues.source"], name=op.f("fk_catalogue_models_source_catalogues")
        ),
        sa.PrimaryKeyConstraint("source", "model_id", name=op.f("pk_catalogue_models")),
    )


def downgrade() -> None:
    op.drop_table("catalogue_models")
    op.drop_table("catalogues")
    op.drop_table("prices")
    op.drop_table("shadow_findings")
    op.drop_table("ledger")
    op.drop_table("accounts")
    op.drop_table("api_keys")
    op.drop_table("users")
    op.drop_table("plans")
    op.drop_table("audit_log")
    op.drop_table("heartbeats")
    op.drop_table("switches")
    op.drop_table("schema_releases")
