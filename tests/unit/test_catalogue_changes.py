"""Which changes of a schema break a program that worked, and which do not."""

import time
from typing import Any

import pytest

from app.catalogue.changes import breaking_changes


def schema(required: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required or []}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        ({"type": "integer"}, {"type": "number"}),
        ({"type": "float"}, {"type": "number"}),
        ({"type": "string"}, {"type": ["string", "null"]}),
        ({"type": "string"}, {}),
        ({"enum": [5, 10]}, {"enum": [5, 10, 15]}),
        ({"enum": [5, 10]}, {"type": "integer"} | {"enum": [10, 5]} | {"type": []}),
        ({"minimum": 1, "maximum": 5}, {"minimum": 0, "maximum": 6}),
        ({"maxLength": 5}, {}),
        ({"title": "a", "default": 5}, {"title": "b", "default": 6}),
        ({"validations": [{"validation_rule": "x"}]}, {}),
        ({"validations": [{"a": 1, "b": 2}]}, {"validations": [{"b": 2, "a": 1}]}),
        ({"pattern": "^a"}, {"pattern": "^a"}),
        ({}, {"uniqueItems": False}),
    ],
)
def test_taking_more_breaks_nothing(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert breaking_changes(schema(a=old), schema(a=new)) == []


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ({"type": "number"}, {"type": "integer"}, "`a` must be integer now"),
        ({}, {"type": "string"}, "`a` must be string now"),
        ({"type": "string"}, {"type": "number"}, "`a` must be integer or number now"),
        ({"enum": [5, "x"]}, {"enum": [5]}, '`a` no longer takes "x"'),
        ({}, {"enum": [5]}, "`a` takes listed values only now"),
        ({"minimum": 1}, {"minimum": 2}, "`a` has minimum 2 now"),
        ({}, {"maxLength": 9}, "`a` has maxLength 9 now"),
        ({"maximum": 9}, {"maximum": 8.5}, "`a` has maximum 8.5 now"),
        ({}, {"exclusiveMinimum": 2}, "`a` has exclusiveMinimum 2 now"),
        ({}, {"exclusiveMaximum": 2}, "`a` has exclusiveMaximum 2 now"),
        ({}, {"minLength": 2}, "`a` has minLength 2 now"),
        ({}, {"minItems": 2}, "`a` has minItems 2 now"),
        ({}, {"maxItems": 2}, "`a` has maxItems 2 now"),
        ({}, {"pattern": "^a"}, "`a` has another rule `pattern` now"),
        ({}, {"format": "image_uri"}, "`a` has another rule `format` now"),
        ({}, {"const": 5}, "`a` has another rule `const` now"),
        ({}, {"multipleOf": 2}, "`a` has another rule `multipleOf` now"),
        ({}, {"uniqueItems": True}, "`a` has another rule `uniqueItems` now"),
        (
            {"validations": []},
            {"validations": [{"validation_rule": "width_pixels<"}]},
            "`a` has another rule `validations` now",
        ),
    ],
)
def test_taking_less_is_named(old: dict[str, Any], new: dict[str, Any], change: str) -> None:
    assert breaking_changes(schema(a=old), schema(a=new)) == [change]


def test_fields_that_go_and_demands_that_come_are_named() -> None:
    old = schema(["a"], a={}, b={}, c={})
    new = schema(["b", "d"], b={}, c={}, d={})
    assert breaking_changes(old, new) == [
        "`a` is gone",
        "`b` is required now",
        "`d` is required now",
    ]
    assert breaking_changes(old, old) == []
    assert breaking_changes({}, schema(a={})) == []


def test_ten_times_the_options_take_about_ten_times_as_long_to_compare() -> None:
    def spent(options: int) -> float:
        was, now = (schema(a={"enum": list(range(first, first + options))}) for first in (0, 1))
        began = time.process_time()
        assert breaking_changes(was, now) == ["`a` no longer takes 0"]
        return time.process_time() - began

    assert spent(20_000) < 40 * spent(2000)
