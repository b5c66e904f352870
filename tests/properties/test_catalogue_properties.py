"""Whatever JSON comes, checking it never fails, never invents a prompt, and settles at once."""

import json
import re
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from app.catalogue.changes import breaking_changes
from app.catalogue.entries import read_entry
from app.catalogue.errors import BrokenModelError
from app.catalogue.model import Model
from app.catalogue.service import Catalogue

MODELS = Catalogue.bundled().list()
POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")

texts = st.text(st.characters(codec="utf-8"), max_size=20)
odd_texts = st.sampled_from(
    ["", "\0", "\ud800", "a/b~c", "https://example.com/a", "https://127.1/", "data:", "5", "\n"]
)
numbers = st.integers() | st.floats() | st.sampled_from([2**64, 10**400, -(10**400), 5, 5.0])
scalars = st.none() | st.booleans() | numbers | texts | odd_texts
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(texts | odd_texts, inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def models_and_inputs(draw: st.DrawFn) -> tuple[Model, dict[str, Any]]:
    """Draw a bundled model, and anything under its own names, their look-alikes and others."""
    model = draw(st.sampled_from(MODELS))
    fields = model.input_schema["properties"]
    allowed = [option for field in fields.values() for option in field.get("enum", [])] or [5]
    names = st.sampled_from(list(fields)) | texts | odd_texts
    return model, draw(st.dictionaries(names, values | st.sampled_from(allowed), max_size=8))


@st.composite
def models_and_good_inputs(draw: st.DrawFn) -> tuple[Model, dict[str, Any]]:
    """Draw a bundled model, and what its schema asks for, some of it optional."""
    model = draw(st.sampled_from(MODELS))
    drawn = {name: good_values(model, name) for name in model.input_schema["properties"]}
    required = model.input_schema["required"]
    return model, draw(
        st.fixed_dictionaries(
            {name: drawn[name] for name in required},
            optional={name: drawn[name] for name in drawn if name not in required},
        )
    )


def good_values(model: Model, name: str) -> st.SearchStrategy[Any]:
    field = model.input_schema["properties"][name]
    if "enum" in field:
        return st.sampled_from(field["enum"])
    url = texts.map(lambda path: f"https://example.com/{quote(path)}")
    match field["type"]:
        case "integer":
            return st.integers(field.get("minimum", -5), field.get("maximum", 10**9))
        case "number":
            return st.floats(field["minimum"], field["maximum"])
        case "boolean":
            return st.booleans()
        case "array":
            return st.lists(url, min_size=field.get("minItems", 0), max_size=field.get("maxItems"))
        case _:
            return url if name in model.media_fields else texts.filter(lambda t: "\0" not in t)


@given(models_and_inputs())
def test_check_answers_any_json_with_what_can_be_written_down(
    drawn: tuple[Model, dict[str, Any]],
) -> None:
    model, sent = drawn
    checked = model.check(sent)

    json.dumps(checked.input, ensure_ascii=False, allow_nan=False).encode()
    for error in checked.errors:
        assert POINTER.fullmatch(error.pointer)
        assert error.pointer.startswith("/input")
        assert re.fullmatch("[a-z_]+", error.code)
        assert error.detail.endswith(".")
        (error.pointer + error.detail).encode()
    # Half of a surrogate pair is written as a question mark, which may be a name of its own.
    written_alike = len(sent) - len({name.encode("utf-8", "replace") for name in sent})
    assert len(checked.errors) - len(set(map(repr, checked.errors))) <= written_alike


@given(models_and_inputs())
def test_only_settings_are_filled_in(drawn: tuple[Model, dict[str, Any]]) -> None:
    model, sent = drawn
    filled = model.check(sent).input
    fields = model.input_schema["properties"]

    for name in filled.keys() - sent.keys():
        assert "enum" in fields[name] or fields[name]["type"] in ("integer", "number", "boolean")
        assert filled[name] == fields[name]["default"]
    for name in filled.keys() & sent.keys():
        assert filled[name] is sent[name]


@given(models_and_inputs())
def test_checking_the_filled_input_again_changes_nothing(
    drawn: tuple[Model, dict[str, Any]],
) -> None:
    model, sent = drawn
    first = model.check(model.check(sent).input)  # what no JSON can carry is gone after one round
    second = model.check(first.input)

    assert second == first


@given(models_and_good_inputs())
def test_good_inputs_are_accepted_and_all_their_files_are_listed(
    drawn: tuple[Model, dict[str, Any]],
) -> None:
    model, sent = drawn
    checked = model.check(sent)

    assert checked.errors == []
    assert {name: checked.input[name] for name in sent} == sent
    listed = {entry.pointer.split("/")[2] for entry in checked.media}
    assert listed == {name for name in model.media_fields if sent.get(name)}


@given(models_and_good_inputs(), st.data())
def test_one_wrong_value_in_a_good_input_is_found_at_its_place(
    drawn: tuple[Model, dict[str, Any]], data: st.DataObject
) -> None:
    model, sent = drawn
    name = data.draw(st.sampled_from(list(model.input_schema["properties"])))
    checked = model.check({**sent, name: {"not": "this"}})

    assert [(error.pointer, error.code) for error in checked.errors] == [(f"/input/{name}", "type")]


@given(drawn=models_and_good_inputs(), leads_inside=st.booleans())
def test_fault_elsewhere_changes_nothing_of_what_is_said_of_the_rest(
    drawn: tuple[Model, dict[str, Any]], *, leads_inside: bool
) -> None:
    model, sent = drawn
    if leads_inside:
        sent |= {name: "https://127.1/" for name in model.media_fields if name in sent}
    alone, beside = model.check(sent), model.check({**sent, "zoom\0": 1})

    assert beside.errors[:-1] == alone.errors
    assert beside.errors[-1].code == "unknown_field"
    assert (beside.input, beside.media) == (alone.input, alone.media)
    assert beside.output_seconds == alone.output_seconds


@given(st.sampled_from(MODELS), texts)
def test_texts_and_addresses_never_reach_an_error(model: Model, text: str) -> None:
    fields = model.input_schema["properties"]
    secret = {
        name: f"hunter2{text}" if field["type"] == "string" else [f"hunter2{text}\0", {}]
        for name, field in fields.items()
        if field["type"] in ("string", "array") and "enum" not in field
    }
    assert "hunter2" not in "".join(error.detail for error in model.check(secret).errors)


schema_words = st.sampled_from(
    [
        *("type", "properties", "required", "enum", "default", "minimum", "maximum", "items"),
        *("maxLength", "pattern", "format", "validations", "validation_rule", "validation_value"),
        *("additionalProperties", "anyOf", "$ref", "$schema", "$id", "#", "prompt", "image_url"),
        *("string", "integer", "float", "array", "image_uri", "width_pixels<", "duration"),
    ]
)
schema_values = st.recursive(
    scalars | schema_words,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(schema_words | texts, inner, max_size=4)
    ),
    max_leaves=12,
)
fields = st.dictionaries(schema_words, schema_values, max_size=4)
schemas = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(schema_words, fields, max_size=4)},
    optional={"required": st.lists(schema_words, max_size=3), "default": schema_values},
)
entries = st.fixed_dictionaries(
    {"model_id": st.just("a/b") | values, "input_schema": schemas | schema_values},
    optional={
        name: values | st.sampled_from(["video", "second", "output", 0.5])
        for name in ("display_name", "categories", "kind", "base_price_usd", "price_unit")
    },
)


@given(entries, entries, st.dictionaries(schema_words | texts, values, max_size=4))
def test_whatever_upstream_lists_is_a_model_that_works_or_a_named_fault(
    one: Any, other: Any, given_input: dict[str, Any]
) -> None:
    models = []
    for entry in (one, other):
        with suppress(BrokenModelError):
            models.append(read_entry(entry))
    for model in models:
        assert json.loads(json.dumps(model.input_schema)) == model.input_schema
        assert json.dumps(model.input_schema, ensure_ascii=False).encode()
        checked = model.check(given_input)
        assert json.dumps([error.detail for error in checked.errors]).encode()
        for against in models:
            changes = breaking_changes(model.input_schema, against.input_schema)
            assert all(change.encode() for change in changes)
        assert breaking_changes(model.input_schema, model.input_schema) == []
