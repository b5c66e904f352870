"""A model as the catalogue knows it: its facts, and the rules its inputs must follow."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Self

from app.catalogue.checker import Checked, InputChecker
from app.catalogue.errors import BrokenModelError
from app.net.reach import PUBLIC, Reach

_MODEL_ID = re.compile(r"(?!\.)[\w.-]+(?:/(?!\.)[\w.-]+){1,4}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What RunComfy's list says about a model besides its schema; price and unit come together."""

    categories: tuple[str, ...]
    kind: str
    description: str = ""
    base_price_usd: Decimal | None = None
    price_unit: Literal["second", "output"] | None = None
    pricing_note: str = ""
    model_url: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """Made by `parse`; `schema_hash` changes when and only when the meaning of the schema may."""

    model_id: str
    display_name: str
    output_kind: str
    listing: Listing
    input_schema: dict[str, Any]
    schema_hash: str
    media_fields: tuple[str, ...]
    _checker: InputChecker = field(repr=False)

    @classmethod
    def parse(cls, document: Any, *, listing: Listing | None = None) -> Self:
        """Read a model's description, or raise BrokenModelError naming the rule it breaks.

        Without a `listing` the id says what a list would: its last part names what goes in and
        out.
        """
        match document:
            case {
                "model_id": str(model_id),
                "display_name": str(display_name),
                "output_kind": str(output_kind),
                "input_schema": dict(schema),
            }:
                pass
            case _:
                raise BrokenModelError(
                    "a model has the texts model_id, display_name and output_kind,"
                    " and the object input_schema"
                )
        if not _MODEL_ID.fullmatch(model_id):
            raise BrokenModelError("model_id has 2 to 5 parts of letters, digits, `.`, `_` and `-`")
        checker = InputChecker(schema, output_kind=output_kind)
        return cls(
            model_id=model_id,
            display_name=display_name,
            output_kind=output_kind,
            listing=listing or Listing(categories=(model_id.rpartition("/")[2],), kind=output_kind),
            input_schema=schema,
            schema_hash=_hash(schema),
            media_fields=checker.media_fields,
            _checker=checker,
        )

    def check(self, input: Mapping[str, Any], *, reach: Reach = PUBLIC) -> Checked:  # noqa: A002 - the wire's word
        """Find everything that is wrong with `input`, without looking at any file.

        `reach` is how far the addresses of its files may lead.
        """
        return self._checker.check(input, reach=reach)


def _hash(schema: Mapping[str, Any]) -> str:
    canonical = json.dumps(schema, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
