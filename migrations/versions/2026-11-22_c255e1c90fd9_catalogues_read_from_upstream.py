"""Catalogues read from upstream.

A migration must suit the release before it: add here, stop using the old in the same release, and
remove in the next. Nothing is imported from the app, whose models will have moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "c255e1c90fd9"
down_revision = "08561a6b6429"
branch_labels = None
depends_on = None


def upgrade() -> None:
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
