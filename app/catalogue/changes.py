"""What a new schema no longer takes although the old one did: a pure comparison of two."""

import json
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from app.catalogue.dialect import fields_of, types_of
from app.catalogue.wording import label, quoted

_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_RULES = ("pattern", "format", "const", "multipleOf", "uniqueItems", "validations")


def breaking_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name every way in which an input that `old` takes may be refused under `new`."""
    before, after = fields_of(old), fields_of(new)
    demanded = set(new.get("required", ())) - set(old.get("required", ()))
    return [
        *(f"{label(name)} is gone" for name in before if name not in after),
        *(f"{label(name)} is required now" for name in after if name in demanded),
        *(
            f"{label(name)} {change}"
            for name in after
            if name in before
            for change in _narrowings(before[name], after[name])
        ),
    ]


def _narrowings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    types, were = _types(new), _types(old)
    if types and not (were and were <= types):
        yield f"must be {' or '.join(sorted(types))} now"
    if "enum" in new:
        options = {_canonical(option) for option in new["enum"]}  # a list may have thousands
        if "enum" not in old:
            yield "takes listed values only now"
        elif lost := [each for each in old["enum"] if _canonical(each) not in options]:
            yield f"no longer takes {', '.join(map(quoted, lost[:10]))}"
    for bounds, is_narrower in ((_LOWER_BOUNDS, operator.gt), (_UPPER_BOUNDS, operator.lt)):
        for bound in bounds:
            if bound in new and (old.get(bound) is None or is_narrower(new[bound], old[bound])):
                yield f"has {bound} {quoted(new[bound])} now"
    for rule in _RULES:
        if new.get(rule) and _canonical(new[rule]) != _canonical(old.get(rule)):
            yield f"has another rule `{rule}` now"


def _types(field: Mapping[str, Any]) -> set[str]:
    """List the types, with integers among the numbers, and RunComfy's floats as numbers."""
    types = {"number" if name == "float" else name for name in types_of(field)}
    return types | {"integer"} if "number" in types else types


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
