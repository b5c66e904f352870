"""Whether an input fits its model's schema, as far as RunComfy itself would look."""

from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "float": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def complaints(schema: Mapping[str, Any], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every broken rule in the form of `detail[]`; fields the schema does not know pass."""
    missing = [
        _complaint(["body", name], "Field required", "missing")
        for name in schema.get("required", [])
        if name not in given
    ]
    broken = [
        complaint
        for name, rules in schema.get("properties", {}).items()
        if name in given
        for complaint in _judge(["body", name], rules, given[name])
    ]
    return missing + broken


def _judge(loc: list[str | int], rules: Mapping[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    kind = str(rules.get("type"))
    if kind in _TYPES and not _is_a(kind, value):
        yield _complaint(loc, f"Input should be a valid {kind}", f"{kind}_type")
        return
    if "enum" in rules and value not in rules["enum"]:
        choices = ", ".join(map(repr, rules["enum"]))
        yield _complaint(loc, f"Input should be one of {choices}", "enum")
    for rule, broken in _limits(rules, value):
        if broken:
            yield _complaint(loc, f"Input breaks {rule} {rules[rule]}", rule.lower())
    if isinstance(value, list) and "items" in rules:
        for index, item in enumerate(value):
            yield from _judge([*loc, index], rules["items"], item)


def _is_a(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _limits(rules: Mapping[str, Any], value: Any) -> Iterator[tuple[str, bool]]:
    size = len(value) if isinstance(value, str | list) else value
    if not isinstance(size, int | float):
        return
    low, high = _LIMITS.get(type(value), ("minimum", "maximum"))
    if low in rules:
        yield low, size < rules[low]
    if high in rules:
        yield high, size > rules[high]


_LIMITS: Mapping[type, tuple[str, str]] = {
    str: ("minLength", "maxLength"),
    list: ("minItems", "maxItems"),
}


def _complaint(loc: list[str | int], msg: str, kind: str) -> dict[str, Any]:
    return {"loc": loc, "msg": msg, "type": kind}
