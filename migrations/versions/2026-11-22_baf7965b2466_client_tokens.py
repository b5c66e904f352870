"""Client tokens.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "baf7965b2466"
down_revision = "e523cb8e425d"
branch_labels = None
depends_on = None


def upgrade() -> None:
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
    with op.batch_alter_table("client_tokens", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_client_tokens_expires_at"), ["expires_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_client_tokens_job_id"), ["job_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_client_tokens_key_id"), ["key_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_client_tokens_user_id_id"), ["user_id", "id"], unique=False
        )

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("token_id", sa.Text(), nullable=True))

    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.add_column(sa.Column("token_id", sa.Text(), nullable=True))
        batch_op.create_index(
            batch_op.f("ix_ledger_token_id"),
            ["token_id"],
            unique=False,
            sqlite_where=sa.text("token_id IS NOT NULL"),
            postgresql_where=sa.text("token_id IS NOT NULL"),
        )


def downgrade() -> None:
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.drop_index(
            batch_op.f("ix_ledger_token_id"),
            sqlite_where=sa.text("token_id IS NOT NULL"),
            postgresql_where=sa.text("token_id IS NOT NULL"),
        )
        batch_op.drop_column("token_id")

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("token_id")

    with op.batch_alter_table("client_tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_client_tokens_user_id_id"))
        batch_op.drop_index(batch_op.f("ix_client_tokens_key_id"))
        batch_op.drop_index(batch_op.f("ix_client_tokens_job_id"))
        batch_op.drop_index(batch_op.f("ix_client_tokens_expires_at"))

    op.drop_table("client_tokens")
