"""An input against a schema: every rule has its sentence, and defaults fill only settings."""

import math
import time
from typing import Any

import pytest

from app.catalogue.checker import Checked
from app.catalogue.model import Model
from app.catalogue.service import Catalogue
from app.core.errors import FieldError

SEED = Catalogue.bundled().get("bytedance/seedance-1-0/pro/image-to-video")
GOOD = {"prompt": "the camera drifts", "first_frame_image_url": "https://example.com/a.png"}


def model(*required: str, **fields: Any) -> Model:
    return Model.parse(
        {
            "model_id": "acme/dream",
            "display_name": "Dream",
            "output_kind": "video",
            "input_schema": {"type": "object", "required": list(required), "properties": fields},
        }
    )


def found(checked: Checked) -> list[tuple[str, str]]:
    return [(error.pointer, error.code) for error in checked.errors]


def test_good_input_has_no_errors_and_its_settings_filled_in() -> None:
    checked = SEED.check(GOOD)

    assert checked.errors == []
    assert checked.input == {
        **GOOD,
        "resolution": "480p",
        "ratio": "adaptive",
        "duration": 5,
    }


def test_the_given_input_is_left_as_it_was() -> None:
    given = dict(GOOD)
    SEED.check(given)
    assert given == GOOD


def test_all_errors_come_at_once_in_the_order_of_the_schema_and_unknown_fields_last() -> None:
    checked = SEED.check(
        {
            "zoom": 1,
            "duration": 13,
            "ratio": "2:1",
            "first_frame_image_url": "http://example.com/a.png",
            "resolution": None,
        }
    )
    assert found(checked) == [
        ("/input/prompt", "required"),
        ("/input/resolution", "type"),
        ("/input/first_frame_image_url", "media_url"),
        ("/input/ratio", "enum"),
        ("/input/duration", "enum"),
        ("/input/zoom", "unknown_field"),
    ]


@pytest.mark.parametrize(
    ("field", "value", "code", "detail"),
    [
        (
            {"type": "integer", "enum": [2, 3]},
            4,
            "enum",
            "`x` must be one of 2, 3, not 4.",
        ),
        (
            {"type": "integer", "enum": [2, 3]},
            "2",
            "type",
            '`x` must be an integer: one of 2, 3, not "2".',
        ),
        (
            {"type": "string", "enum": ["480p", "720p"]},
            "4k",
            "enum",
            '`x` must be one of "480p", "720p", not "4k".',
        ),
        (
            {"type": "integer", "minimum": 4, "maximum": 15},
            16,
            "maximum",
            "`x` must be from 4 to 15, not 16.",
        ),
        (
            {"type": "integer", "minimum": 4, "maximum": 15},
            3,
            "minimum",
            "`x` must be from 4 to 15, not 3.",
        ),
        ({"type": "integer", "minimum": 4}, 3, "minimum", "`x` must be at least 4, not 3."),
        ({"type": "float", "maximum": 0.5}, 1, "maximum", "`x` must be at most 0.5, not 1."),
        (
            {"type": "number", "exclusiveMinimum": 0},
            0,
            "exclusive_minimum",
            "`x` must be more than 0, not 0.",
        ),
        (
            {"type": "number", "exclusiveMaximum": 1},
            1,
            "exclusive_maximum",
            "`x` must be less than 1, not 1.",
        ),
        (
            {"type": "integer", "multipleOf": 8},
            9,
            "multiple_of",
            "`x` must be a multiple of 8, not 9.",
        ),
        ({"type": "integer"}, True, "type", "`x` must be an integer, not true."),
        ({"type": "integer"}, 1.5, "type", "`x` must be an integer, not 1.5."),
        ({"type": "float"}, "1.5", "type", '`x` must be a number, not "1.5".'),
        (
            {"type": "boolean"},
            None,
            "type",
            "`x` must be true or false, not null; an optional field is left out instead.",
        ),
        ({"type": ["float", "null"]}, [], "type", "`x` must be null or a number."),
        ({"type": "integer"}, {"a": 1}, "type", "`x` must be an integer."),
        ({"type": "string"}, 5, "type", "`x` must be text."),
        (
            {"type": "string", "maxLength": 3},
            "secret",
            "max_length",
            "`x` must have at most 3 character(s).",
        ),
        (
            {"type": "string", "minLength": 3},
            "x",
            "min_length",
            "`x` must have at least 3 character(s).",
        ),
        (
            {"type": "string", "pattern": "^[a-z]+$"},
            "SECRET",
            "pattern",
            "`x` must match the pattern ^[a-z]+$.",
        ),
        (
            {"type": "array", "minItems": 1},
            [],
            "min_items",
            "`x` must have at least 1 item(s).",
        ),
        (
            {"type": "array", "maxItems": 1},
            [1, 2],
            "max_items",
            "`x` must have at most 1 item(s).",
        ),
        (
            {"type": "array", "uniqueItems": True},
            [1, 1],
            "unique_items",
            "`x` must not name the same item twice.",
        ),
        (
            {"const": "secret"},
            "other",
            "const",
            "`x` breaks the rule `const` of this model's input_schema.",
        ),
    ],
)
def test_each_rule_has_its_code_and_its_sentence(
    field: dict[str, Any], value: Any, code: str, detail: str
) -> None:
    assert model(x=field).check({"x": value}).errors == [
        FieldError(pointer="/input/x", code=code, detail=detail)
    ]


def test_error_inside_a_list_is_pointed_at() -> None:
    checked = model(x={"type": "array", "items": {"type": "integer"}}).check({"x": [1, "a", 2]})
    assert checked.errors == [
        FieldError(pointer="/input/x/1", code="type", detail="`x[1]` must be an integer.")
    ]


def test_missing_fields_are_named() -> None:
    assert SEED.check({}).errors == [
        FieldError(
            pointer=f"/input/{name}",
            code="required",
            detail=f"`{name}` is missing, and this model needs it; add it to the input.",
        )
        for name in ("prompt", "first_frame_image_url")
    ]


def test_required_text_may_be_empty() -> None:
    assert SEED.check({**GOOD, "prompt": ""}).errors == []


def test_unknown_field_is_refused_by_name_with_the_nearest_known_one() -> None:
    assert SEED.check({**GOOD, "durations": 5}).errors == [
        FieldError(
            pointer="/input/durations",
            code="unknown_field",
            detail=(
                "This model has no field `durations`. Did you mean `duration`? Its fields are"
                " `prompt`, `resolution`, `first_frame_image_url`, `ratio`, `duration`."
            ),
        )
    ]


def test_pointer_to_an_odd_name_is_escaped() -> None:
    assert found(SEED.check({**GOOD, "a/b~c": 1})) == [("/input/a~1b~0c", "unknown_field")]


def test_pointer_never_holds_what_no_answer_could_carry() -> None:
    checked = SEED.check({**GOOD, "\ud800": 1})

    assert found(checked) == [("/input/?", "unknown_field")]
    assert "\ud800" not in checked.input


def test_model_that_names_no_fields_takes_any() -> None:
    assert model().check({"anything": 1}).errors == []


def test_schema_that_welcomes_further_fields_takes_any() -> None:
    welcoming = Model.parse(
        {
            "model_id": "acme/dream",
            "display_name": "Dream",
            "output_kind": "video",
            "input_schema": {"properties": {"x": {}}, "additionalProperties": True},
        }
    )
    assert welcoming.check({"y": 1}).errors == []


def test_whole_float_counts_as_integer_and_stays_as_it_was_sent() -> None:
    checked = SEED.check({**GOOD, "duration": 5.0})

    assert checked.errors == []
    assert repr(checked.input["duration"]) == "5.0"


def test_float_is_the_dialects_word_for_number_at_any_depth() -> None:
    nested = model(
        x={"type": "array", "items": {"type": "object", "properties": {"type": {"type": "float"}}}}
    )
    assert nested.check({"x": [{"type": 0.5}]}).errors == []
    assert found(nested.check({"x": [{"type": "0.5"}]})) == [("/input/x/0/type", "type")]


def test_plain_data_in_a_schema_is_never_read_as_a_schema() -> None:
    odd = model(x={"enum": [{"type": "float"}]})
    assert odd.check({"x": {"type": "float"}}).errors == []


@pytest.mark.parametrize(
    ("field", "filled"),
    [
        ({"type": "integer", "default": 5}, True),
        ({"type": "number", "default": 0.5}, True),
        ({"type": "float", "default": 0.5}, True),
        ({"type": "boolean", "default": False}, True),
        ({"type": "string", "enum": ["a", "b"], "default": "a"}, True),
        ({"enum": ["a", 1], "default": 1}, True),
        ({"type": ["integer", "null"], "default": 5}, True),
        ({"type": "string", "default": "a cat"}, False),
        ({"type": ["string", "integer"], "default": 5}, False),
        ({"type": "array", "default": []}, False),
        ({"type": "integer", "default": None}, False),
        ({"default": 5}, False),
        ({"type": "integer", "maximum": 3, "default": 5}, False),
        ({"enum": ["a"], "default": "b"}, False),
    ],
)
def test_defaults_fill_settings_and_nothing_else(field: dict[str, Any], *, filled: bool) -> None:
    checked = model(x=field).check({})

    assert checked.errors == []
    assert checked.input == ({"x": field["default"]} if filled else {})


def test_sample_prompts_and_sample_media_are_never_filled_in() -> None:
    sampled = model(
        "prompt",
        "image",
        prompt={"type": "string", "default": "a cat"},
        image={"type": "string", "default": "https://example.com/cat.png"},
    )
    checked = sampled.check({})

    assert checked.input == {}
    assert found(checked) == [("/input/prompt", "required"), ("/input/image", "required")]


def test_default_never_replaces_what_was_sent() -> None:
    checked = model(x={"type": "boolean", "default": True}).check({"x": None})
    assert checked.input == {"x": None}


def test_required_setting_with_a_default_may_be_left_out() -> None:
    checked = model("x", x={"type": "integer", "default": 5}).check({})
    assert (checked.errors, checked.input) == ([], {"x": 5})


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        ("a\0b", "must not hold a NUL character or half of a surrogate pair"),
        ("\ud800", "must not hold a NUL character or half of a surrogate pair"),
        ([{"\udfff": 1}], "must not hold a NUL character or half of a surrogate pair"),
        (math.nan, "must be a finite number"),
        (-math.inf, "must be a finite number"),
        (2**64, "must be a number of at most 64 bits"),
        (10**400, "must be a number of at most 64 bits"),
        (list(range(1000)), "must hold at most 1000 values"),
    ],
)
def test_value_that_cannot_be_stored_is_refused_once_and_left_out(value: Any, flaw: str) -> None:
    checked = model("x", x={"type": "integer", "maximum": 3}).check({"x": value})

    assert checked.input == {}
    assert checked.errors == [
        FieldError(
            pointer="/input/x",
            code="not_storable",
            detail=f"`x` {flaw}, or it can be neither stored nor sent.",
        )
    ]


@pytest.mark.parametrize(("levels", "is_refused"), [(31, False), (32, True), (100_000, True)])
def test_deep_nesting_is_refused(levels: int, *, is_refused: bool) -> None:
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    refused = [("/input/x", "not_storable")] if is_refused else []
    assert found(model(x={}).check({"x": deep})) == refused


def test_text_is_short_enough_to_be_listed_a_hundred_times() -> None:
    long = "x" * 2**16
    a_file = f"data:image/png;base64,{'AAAA' * 2**20}"
    known = model(prompt={"type": "string"}, image_url={"type": "string"})
    assert found(known.check({"prompt": long, "image_url": a_file})) == []
    (error,) = known.check({"prompt": f"{long}x", "image_url": a_file}).errors
    assert error == FieldError(
        pointer="/input/prompt",
        code="not_storable",
        detail="`prompt` must have 65536 characters at most, or it can be neither stored nor sent.",
    )


@pytest.mark.parametrize(
    "field",
    [
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "format": "image_uris"},
        {"type": "array", "items": {"type": "object"}},
    ],
)
def test_no_list_holds_more_text_than_one_text_may(field: dict[str, Any]) -> None:
    url = f"https://example.com/{'a' * 8000}"
    listed = [{"of": url} if field.get("items") == {"type": "object"} else url] * 9
    known = model(x=field)
    assert found(known.check({"x": listed[:8]})) == []
    assert found(known.check({"x": listed})) == [("/input/x", "not_storable")]


def test_files_in_a_list_may_be_as_long_as_files() -> None:
    files = [f"data:image/png;base64,{'AAAA' * 2**10}"] * 100
    assert found(model(images={"type": "array"}).check({"images": files})) == []


def test_letters_of_every_script_and_line_breaks_are_welcome() -> None:
    checked = SEED.check({**GOOD, "prompt": "Ein Kätzchen\n\t猫 🐈 \u202e \x1b"})
    assert checked.errors == []


def test_faults_beyond_the_hundredth_of_a_field_take_no_time_to_explain() -> None:
    options = [f"option {n}" for n in range(1000)]
    picky = model(a={"type": "array", "items": {"enum": options}})

    def spent(faults: int) -> float:
        began = time.process_time()
        assert len(picky.check({"a": ["x"] * faults}).errors) == 100
        return time.process_time() - began

    assert spent(900) < 4 * spent(100)


def test_errors_stop_at_a_hundred() -> None:
    assert len(SEED.check({f"x{number}": 1 for number in range(5000)}).errors) == 100
    lists = model(images={"type": "array"}, videos={"type": "array"})
    inward = ["http://127.0.0.1/"] * 100
    assert len(lists.check({"images": inward, "videos": inward}).errors) == 100


def test_long_values_are_quoted_cut_short() -> None:
    [error] = model(x={"type": "integer"}).check({"x": "9" * 1000}).errors
    assert error.detail == f'`x` must be an integer, not "{"9" * 59}…".'


def test_long_names_are_pointed_at_cut_short() -> None:
    [error] = SEED.check({**GOOD, "n" * 100_000: 1}).errors
    assert len(error.pointer) < 300
    assert len(error.detail) < 300


@pytest.mark.parametrize("field", [{"type": "string", "maxLength": 2}, {"type": "array"}, {}])
@pytest.mark.parametrize("value", ["hunter2", ["hunter2"], {"hunter2": "hunter2"}])
def test_free_text_is_never_quoted(field: dict[str, Any], value: Any) -> None:
    checked = model(x=field, image={"type": "string"}).check({"x": value, "image": value})
    assert "hunter2" not in repr(checked.errors)
