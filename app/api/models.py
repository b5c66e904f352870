"""/v1/models: the catalogue, in RunComfy's own shape."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from app.api import runcomfy
from app.api.deps import CALLER_PROBLEMS, AnyCaller, Gateway
from app.api.routing import Router
from app.auth.errors import ModelNotAllowedError
from app.auth.models import Principal
from app.catalogue.errors import UnknownModelError
from app.catalogue.model import Model
from app.core.errors import NotFoundError
from app.jobs.prices import prices_of
from app.quotas.pricing import Price, list_price

router = Router(
    prefix="/v1/models", tags=["models"], responses=runcomfy.error_responses(*CALLER_PROBLEMS)
)


@router.get("", summary="List models")
async def list_models(
    gateway: Gateway,
    caller: AnyCaller,
    search: Annotated[str, Query(description="Words in the id or the name.")] = "",
    category: Annotated[str, Query()] = "",
    kind: Annotated[str, Query()] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    *,
    include_schema: Annotated[bool, Query()] = False,
) -> dict[str, Any]:
    found = [
        model
        for model in _allowed(gateway, caller)
        if search.lower() in f"{model.model_id} {model.display_name}".lower()
        and category in {"", *model.listing.categories}
        and kind in {"", model.listing.kind}
    ]
    prices = await gateway.prices.current()
    return {
        "models": [
            _entry(model, prices, include_schema=include_schema)
            for model in found[offset : offset + limit]
        ],
        "total": len(found),
        "limit": limit,
        "offset": offset,
    }


# Declared before the look-up by id, whose path matches this one too.
@router.get("/categories", summary="List the categories of models")
async def list_categories(gateway: Gateway, caller: AnyCaller) -> dict[str, list[str]]:
    categories = {name for model in _allowed(gateway, caller) for name in model.listing.categories}
    return {"categories": sorted(categories)}


@router.get(
    "/{model_id:path}",
    summary="Read one model with its schema",
    responses=runcomfy.error_responses(UnknownModelError, ModelNotAllowedError, NotFoundError),
)
async def get_model(gateway: Gateway, caller: AnyCaller, model_id: str) -> dict[str, Any]:
    model = gateway.catalogue.get(model_id)
    if caller.models is not None and model_id not in caller.models:
        raise ModelNotAllowedError(model_id)
    return _entry(model, await gateway.prices.current(), include_schema=True)


def _allowed(gateway: Gateway, caller: Principal) -> Sequence[Model]:
    models = gateway.catalogue.list()
    if caller.models is None:
        return models
    return [model for model in models if model.model_id in caller.models]


def _entry(model: Model, prices: Sequence[Price], *, include_schema: bool) -> dict[str, Any]:
    price, special = list_price(prices_of(model, prices))
    listing = model.listing
    entry = {
        "model_id": model.model_id,
        "display_name": model.display_name,
        "description": listing.description,
        "categories": list(listing.categories),
        "kind": listing.kind,
        "output_kind": model.output_kind,
        "base_price_usd": None if price is None else float(price.base_price_usd),
        "price_unit": None if price is None else price.price_unit,
        "pricing_note": "; ".join(map(_note, special)) or listing.pricing_note,
        "model_url": listing.model_url,
        "inputs": list(model.input_schema.get("properties", {})),
        "required_inputs": list(model.input_schema.get("required", [])),
        "schema_hash": model.schema_hash,
    }
    return entry | {"input_schema": dict(model.input_schema)} if include_schema else entry


def _note(price: Price) -> str:
    """Describe a price that holds only for some inputs."""
    conditions = ", ".join(f"{name} {value}" for name, value in sorted(price.when.items()))
    return f"{conditions}: {price.base_price_usd:f} US dollars per {price.price_unit}"
