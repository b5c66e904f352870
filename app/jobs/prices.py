"""Which prices are in force for a model: the operator's lines, then what RunComfy lists."""

from collections.abc import Sequence

from app.catalogue.model import Model
from app.quotas.pricing import Price


def prices_of(model: Model, table: Sequence[Price]) -> Sequence[Price]:
    """Return the model's prices; of those that fit equally well, the first is preferred."""
    lines = [line for line in table if line.model == model.model_id]
    listing = model.listing
    if listing.base_price_usd is None or listing.price_unit is None:
        return lines
    listed = Price(
        model=model.model_id, base_price_usd=listing.base_price_usd, price_unit=listing.price_unit
    )
    return [*lines, listed]
