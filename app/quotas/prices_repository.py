"""The statements on the operator's table of prices."""

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models.quota import PriceRow
from app.db.statements import lock_table
from app.quotas.pricing import Price


class PricesRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def lock(self) -> None:
        """Wait for the turn to replace the table: two at once would leave the lines of both."""
        await lock_table(self._tx, PriceRow)

    async def find_all(self) -> Sequence[Price]:
        found = await self._tx.execute(select(PriceRow).order_by(PriceRow.id))
        return tuple(
            Price(
                model=row.model,
                base_price_usd=Decimal(row.base_price_usd),
                price_unit=row.price_unit,
                when=row.conditions or {},
            )
            for row in found
        )

    async def replace_all(self, prices: Sequence[Price]) -> None:
        await self._tx.execute(delete(PriceRow))
        if not prices:
            return
        await self._tx.execute(
            insert(PriceRow),
            [
                {
                    "id": number,
                    "model": price.model,
                    "base_price_usd": format(price.base_price_usd, "f"),
                    "price_unit": price.price_unit,
                    "conditions": dict(price.when) or None,
                }
                for number, price in enumerate(prices, 1)
            ],
        )
