"""The statements on catalogues read from upstream."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalogue.model import Listing, Model
from app.db.models import CatalogueModelRow, CatalogueRow, JobRow
from app.db.statements import insert_into


class CatalogueRepository:
    def __init__(self, tx: AsyncConnection, source: str) -> None:
        self._tx = tx
        self._source = source

    async def version(self) -> int:
        """Return the number of the last change; 0 before the first."""
        found = await self._tx.execute(
            select(CatalogueRow.version).where(CatalogueRow.source == self._source)
        )
        return found.scalar_one_or_none() or 0

    async def take_turn(self, *, at: datetime, until: datetime) -> bool:
        """Claim the read that is due by moving it to `until`; False if another process has it."""
        await self._ensure(at)
        moved = await self._tx.execute(
            update(CatalogueRow)
            .where(CatalogueRow.source == self._source, CatalogueRow.due_at <= at)
            .values(due_at=until)
            .returning(CatalogueRow.source)
        )
        return moved.scalar_one_or_none() is not None

    async def lock(self, *, at: datetime, due_at: datetime) -> int:
        """Record a successful read and return the version; a concurrent writer waits here."""
        await self._ensure(at)
        noted = await self._tx.execute(
            update(CatalogueRow)
            .where(CatalogueRow.source == self._source)
            .values(synced_at=at, due_at=due_at)
            .returning(CatalogueRow.version)
        )
        return int(noted.scalar_one())

    async def raise_version(self) -> None:
        await self._tx.execute(
            update(CatalogueRow)
            .where(CatalogueRow.source == self._source)
            .values(version=CatalogueRow.version + 1)
        )

    async def find_all(self) -> Sequence[Row[Any]]:
        found = await self._tx.execute(
            select(*CatalogueModelRow.__table__.c)
            .where(CatalogueModelRow.source == self._source)
            .order_by(CatalogueModelRow.model_id)
        )
        return found.all()

    async def save(self, models: Collection[Model], *, at: datetime) -> None:
        """Insert models, or replace their stored versions."""
        if not models:
            return
        insert = insert_into(self._tx, CatalogueModelRow)
        replaced = [
            column.name for column in CatalogueModelRow.__table__.c if not column.primary_key
        ]
        await self._tx.execute(
            insert.on_conflict_do_update(
                index_elements=[CatalogueModelRow.source, CatalogueModelRow.model_id],
                set_={name: insert.excluded[name] for name in replaced},
            ),
            [self._row(model, at=at) for model in models],
        )

    async def withdraw(self, model_ids: Collection[str], *, at: datetime) -> None:
        await self._tx.execute(
            update(CatalogueModelRow)
            .where(
                CatalogueModelRow.source == self._source,
                CatalogueModelRow.model_id.in_(sorted(model_ids)),
            )
            .values(withdrawn_at=at)
        )

    async def in_use(self, model_ids: Collection[str], *, since: datetime) -> set[str]:
        """Return which of the models made a job since then."""
        found = await self._tx.execute(
            select(JobRow.model)
            .where(JobRow.model.in_(sorted(model_ids)))
            .group_by(JobRow.model)
            .having(func.max(JobRow.created_at) >= since)
        )
        return set(found.scalars())

    async def _ensure(self, at: datetime) -> None:
        fresh = insert_into(self._tx, CatalogueRow).values(
            source=self._source, version=0, due_at=at, synced_at=None
        )
        await self._tx.execute(fresh.on_conflict_do_nothing())

    def _row(self, model: Model, *, at: datetime) -> dict[str, Any]:
        listing = asdict(model.listing)
        price, unit = listing.pop("base_price_usd"), listing.pop("price_unit")
        return {
            "source": self._source,
            "model_id": model.model_id,
            "display_name": model.display_name,
            "output_kind": model.output_kind,
            "listing": listing | {"categories": list(model.listing.categories)},
            "input_schema": model.input_schema,
            "schema_hash": model.schema_hash,
            "base_price_usd": None if price is None else format(price, "f"),
            "price_unit": unit,
            "synced_at": at,
            "withdrawn_at": None,
        }


def listing_from_row(row: Row[Any]) -> Listing:
    listing = dict(row.listing)
    return Listing(
        categories=tuple(listing.pop("categories")),
        base_price_usd=None if row.base_price_usd is None else Decimal(row.base_price_usd),
        price_unit=row.price_unit,
        **listing,
    )


def model_from_row(row: Row[Any]) -> Model:
    """Compile a stored model; raise BrokenModelError if our rules have become stricter."""
    return Model.parse(
        {
            "model_id": row.model_id,
            "display_name": row.display_name,
            "output_kind": row.output_kind,
            "input_schema": row.input_schema,
        },
        listing=listing_from_row(row),
    )
