"""What an input may look like, by every rule of the schema dialect."""

from typing import Any

import pytest

from app.sandbox.inspection import complaints


@pytest.mark.parametrize(
    ("rules", "value", "broken"),
    [
        ({"type": "float"}, 1, []),
        ({"type": "number"}, "1", ["number_type"]),
        ({"type": "boolean"}, 1, ["boolean_type"]),
        ({"type": "boolean"}, True, []),
        ({"type": "integer", "minimum": 2, "maximum": 4}, 1, ["minimum"]),
        ({"type": "integer", "minimum": 2, "maximum": 4}, 5, ["maximum"]),
        ({"type": "integer", "minimum": 2, "maximum": 4}, 4, []),
        ({"type": "integer", "enum": [4, 5]}, 5.0, []),
        ({"type": "integer", "maximum": 4}, 5.0, ["maximum"]),
        ({"type": "integer"}, 5.5, ["integer_type"]),
        ({"type": "string", "maxLength": 2}, "abc", ["maxlength"]),
        ({"type": "array", "minItems": 1}, [], ["minitems"]),
        ({"type": "array", "maxItems": 1}, ["a", "b"], ["maxitems"]),
        ({"type": "array", "items": {"type": "string"}}, ["a", 2], ["string_type"]),
        ({"type": "string", "enum": ["5", "6"]}, "7", ["enum"]),
        ({"type": "object"}, {}, []),
        ({"type": "unheard of", "maximum": 1}, None, []),
        ({}, {"any": "thing"}, []),
    ],
)
def test_a_value_that_breaks_a_rule_is_complained_of(
    rules: dict[str, Any], value: Any, broken: list[str]
) -> None:
    found = complaints({"properties": {"field": rules}}, {"field": value, "unknown": 1})
    assert [complaint["type"] for complaint in found] == broken


def test_an_item_is_named_by_its_place() -> None:
    rules = {"type": "array", "items": {"type": "string"}}
    (found,) = complaints({"properties": {"images": rules}}, {"images": ["a", None]})
    assert found["loc"] == ["body", "images", 1]
