"""Runs Alembic: one history for SQLite and Postgres, one migrator at a time."""

from collections.abc import Collection
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy.types import TypeDecorator

from app.db.models import Base, SchemaReleaseRow

_ADVISORY_LOCK = 0x52434759  # any number, the same in every release


def render_item(type_: str, obj: Any, _context: AutogenContext) -> str | Literal[False]:
    """Write the plain type inside ours, so that a migration imports nothing from the app."""
    if type_ == "type" and isinstance(obj, TypeDecorator):
        return f"sa.{obj.impl!r}"
    return False


def note_releases(
    *, ctx: MigrationContext, step: MigrationInfo, heads: Collection[str], **_rest: Any
) -> None:
    """Record which releases can run on the schema after this step.

    After an upgrade marked `expands = True` these are its own release and all that ran before it;
    after any other step, a downgrade included, only the release whose schema it is.
    """
    releases = SchemaReleaseRow.__table__
    if ctx.connection is None or not sa.inspect(ctx.connection).has_table(releases.name):
        return
    if not (step.is_upgrade and _expands(step)):
        ctx.connection.execute(sa.delete(releases))
    kept = set(ctx.connection.execute(sa.select(releases.c.revision)).scalars())
    new = [{"revision": revision} for revision in heads if revision not in kept]
    if new:
        ctx.connection.execute(sa.insert(releases), new)


def _expands(step: MigrationInfo) -> bool:
    revision = step.up_revision
    return revision is not None and getattr(revision.module, "expands", False) is True


def run() -> None:
    engine = sa.create_engine(context.config.attributes["url"], poolclass=sa.NullPool)
    postgres = engine.dialect.name == "postgresql"
    with engine.connect() as connection:
        if postgres:
            connection.execute(sa.text("SET statement_timeout = '15min'"))
            connection.execute(sa.select(sa.func.pg_advisory_lock(_ADVISORY_LOCK)))
            # Not before: a rival's migration may take longer, and waiting for that blocks nobody.
            connection.execute(sa.text("SET lock_timeout = '10s'"))
            connection.commit()
        else:
            # Begun before Alembic looks, so that it leaves this transaction open: it is the lock,
            # and no rival may get in between two migrations. A rival waits as long as Postgres may
            # take.
            connection.exec_driver_sql("PRAGMA busy_timeout = 900000")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            render_item=render_item,
            compare_type=True,
            # On SQLite the transaction is the lock, as above. Alembic would commit each migration,
            # since it believes that SQLite cannot roll back schema changes.
            transactional_ddl=True,
            transaction_per_migration=postgres,
            on_version_apply=note_releases,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


run()
