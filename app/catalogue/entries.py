"""Turns RunComfy's catalogue entries into models: outside data, limited before any other use."""

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from app.catalogue.errors import BrokenModelError
from app.catalogue.model import Listing, Model
from app.catalogue.portability import MAX_INTEGER_BITS, is_storable

MAX_MODELS = 2000
MAX_SCHEMA_BYTES = 256 * 1024
MAX_SCHEMA_DEPTH = 32

_KINDS = ("video", "image", "audio")
_HIGHEST_PRICE = 1_000_000
_MOST_CATEGORIES = 20
_LONGEST = {"display_name": 200, "description": 4000, "pricing_note": 1000, "model_url": 500}
_LONGEST_CATEGORY = 64
_WEB = re.compile(r"https?://\S+")


def read_entry(entry: Any) -> Model:
    """Turn an entry with its schema into a model, or raise BrokenModelError."""
    if not isinstance(entry, dict) or not isinstance(entry.get("model_id"), str):
        raise BrokenModelError("an entry is an object with a model_id")
    schema = entry.get("input_schema")
    _refuse_unstorable(schema)
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise BrokenModelError(f"input_schema is larger than {MAX_SCHEMA_BYTES} bytes")
    model_id = entry["model_id"]
    listing = _listing(entry)
    return Model.parse(
        {
            "model_id": model_id,
            "display_name": _text(entry, "display_name") or model_id,
            "output_kind": _output_kind(model_id, listing),
            "input_schema": schema,
        },
        listing=listing,
    )


def _listing(entry: Mapping[str, Any]) -> Listing:
    price, unit = _price(entry)
    address = _text(entry, "model_url")
    return Listing(
        categories=_categories(entry.get("categories")),
        kind=_storable(entry.get("kind"))[:_LONGEST_CATEGORY],
        description=_text(entry, "description"),
        base_price_usd=price,
        price_unit=unit,
        pricing_note=_text(entry, "pricing_note"),
        model_url=address if _WEB.fullmatch(address) else "",
    )


def _price(
    entry: Mapping[str, Any],
) -> tuple[Decimal, Literal["second", "output"]] | tuple[None, None]:
    """Read a price if its unit is known; in an unknown unit it would be wrong."""
    given = entry.get("base_price_usd")
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None, None
    amount = Decimal(str(given))
    if not (amount.is_finite() and 0 <= amount <= _HIGHEST_PRICE):
        return None, None
    match entry.get("price_unit"):
        case "second" | "output" as unit:
            return round(amount, 6), unit
        case _:
            return None, None


def _output_kind(model_id: str, listing: Listing) -> str:
    """Find a kind that one of the names ends in; else `video`, whose limits are strictest."""
    for name in (listing.kind, *listing.categories, *reversed(model_id.split("/"))):
        last = re.split(r"[-_ ]", name.lower())[-1]
        if last in _KINDS:
            return last
    return "video"


def _categories(given: Any) -> tuple[str, ...]:
    names = given if isinstance(given, list) else []
    texts = (_storable(name)[:_LONGEST_CATEGORY] for name in names[:_MOST_CATEGORIES])
    return tuple(dict.fromkeys(filter(None, texts)))


def _text(entry: Mapping[str, Any], name: str) -> str:
    return _storable(entry.get(name))[: _LONGEST[name]]


def _storable(value: Any) -> str:
    """Drop what neither databases nor responses can hold: NUL and lone surrogates."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "ignore").decode().replace("\0", "").strip()


def _refuse_unstorable(value: Any, *, depth: int = 0) -> None:
    """Raise BrokenModelError for what can be neither stored nor compiled."""
    if depth > MAX_SCHEMA_DEPTH:
        raise BrokenModelError(f"input_schema is nested more than {MAX_SCHEMA_DEPTH} levels deep")
    match value:
        case dict():
            for name, item in value.items():
                _refuse_unstorable(name, depth=depth)
                _refuse_unstorable(item, depth=depth + 1)
        case list():
            for item in value:
                _refuse_unstorable(item, depth=depth + 1)
        case str() if not is_storable(value):
            raise BrokenModelError("input_schema holds text that cannot be stored")
        case float() if not math.isfinite(value):
            raise BrokenModelError("input_schema holds NaN or infinity")
        case int() if value.bit_length() > MAX_INTEGER_BITS:
            raise BrokenModelError(f"input_schema holds a number of over {MAX_INTEGER_BITS} bits")
