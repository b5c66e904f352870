"""The catalogue itself: the models that ship, and the unknown ones."""

import json
import time
from typing import Any

import pytest

from app.catalogue.errors import BrokenModelError, UnknownModelError
from app.catalogue.model import Model
from app.catalogue.service import Catalogue
from app.core import bundled
from app.core.errors import FieldError

SEED = "bytedance/seedance-1-0/pro/image-to-video"


def document(**changes: Any) -> dict[str, Any]:
    return {
        "model_id": "acme/dream/text-to-video",
        "display_name": "Dream Text to Video",
        "output_kind": "video",
        "input_schema": {"type": "object", "properties": {"prompt": {"type": "string"}}},
        **changes,
    }


def test_every_bundled_file_is_one_model_named_after_it() -> None:
    files = sorted(path.name for path in bundled.models().iterdir())
    ids = sorted(model.model_id for model in Catalogue.bundled().list())

    assert len(ids) == 88
    assert files == sorted(f"{model_id.replace('/', '__')}.json" for model_id in ids)


def test_bundled_models_hold_facts_only() -> None:
    for path in bundled.models().iterdir():
        keys = list(json.loads(path.read_text(encoding="utf-8")))
        assert keys == ["model_id", "display_name", "output_kind", "input_schema"]


def test_seed_schema_is_whole() -> None:
    seed = Catalogue.bundled().get(SEED)
    fields = seed.input_schema["properties"]

    assert seed.display_name == "Seedance 1.0 Pro Image to Video"
    assert seed.output_kind == "video"
    assert seed.media_fields == ("first_frame_image_url",)
    assert seed.input_schema["required"] == ["prompt", "first_frame_image_url"]
    assert {name: field["title"] for name, field in fields.items()} == {
        "prompt": "Prompt",
        "resolution": "Resolution",
        "first_frame_image_url": "Start Image",
        "ratio": "Aspect Ratio (WH)",
        "duration": "Duration",
    }
    assert len(fields["first_frame_image_url"]["validations"]) == 7


def test_models_are_listed_by_id() -> None:
    ids = [model.model_id for model in Catalogue.bundled().list()]
    assert ids == sorted(ids)


def test_schema_hash_follows_the_schema_and_nothing_else() -> None:
    schema = {"type": "object", "title": "Input", "properties": {}}
    model = Model.parse(document(input_schema=schema))
    renamed = Model.parse(document(display_name="Other", input_schema=schema))
    reordered = Model.parse(document(input_schema=dict(reversed(schema.items()))))
    changed = Model.parse(document(input_schema={**schema, "required": ["x"]}))

    assert model.schema_hash.startswith("sha256:")
    assert len(model.schema_hash) == len("sha256:") + 64
    assert renamed.schema_hash == reordered.schema_hash == model.schema_hash
    assert changed.schema_hash != model.schema_hash


def test_unknown_model_names_the_nearest_ones_and_the_list() -> None:
    with pytest.raises(UnknownModelError) as caught:
        Catalogue.bundled().get("bytedance/seedance-1-0/pro/image-to-vido")

    problem = caught.value
    assert (problem.status, problem.code) == (422, "unknown_model")
    assert problem.detail.startswith(
        'There is no model "bytedance/seedance-1-0/pro/image-to-vido" here.'
        f" Did you mean {SEED} or "
    )
    assert problem.detail.endswith("GET /v1/models lists every model; ids are case sensitive.")
    assert problem.errors == [
        FieldError(pointer="/model", code="unknown_model", detail=problem.detail)
    ]


def test_who_asks_for_an_unknown_model_again_and_again_costs_one_look() -> None:
    catalogue = Catalogue.bundled()

    def spent(times: int) -> float:
        began = time.process_time()
        for _ in range(times):
            with pytest.raises(UnknownModelError):
                catalogue.get("bytedance/seedance-0-9/pro/image-to-video")
        return time.process_time() - began

    first = spent(1)
    assert spent(100) < 20 * first


def test_model_ids_are_case_sensitive_and_the_right_case_is_suggested() -> None:
    with pytest.raises(UnknownModelError) as caught:
        Catalogue.bundled().get(SEED.upper())
    assert f"Did you mean {SEED}" in caught.value.detail


@pytest.mark.parametrize("model_id", ["", "nothing-like-it", "x" * 1_000_000, "\ud800", "\0\n"])
def test_any_text_is_refused_as_an_unknown_model_in_few_words(model_id: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        Catalogue.bundled().get(model_id)

    assert len(caught.value.detail.encode()) < 500


def test_later_model_of_the_same_id_replaces_the_earlier_one() -> None:
    catalogue = Catalogue([Model.parse(document()), Model.parse(document(display_name="Newer"))])
    assert [model.display_name for model in catalogue.list()] == ["Newer"]


# Each definition refers twice to the next: to check one value against all takes for ever.
DOUBLING = {
    "properties": {"prompt": {"$ref": "#/$defs/0"}},
    "$defs": {
        **{f"{n}": {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)},
        "40": {"type": "string"},
    },
}
DOUBLING_ESCAPED = {
    "properties": {"prompt": {"$ref": "#/$defs/rule%200"}},
    "$defs": {
        **{f"rule {n}": {"allOf": [{"$ref": f"#/$defs/rule%20{n + 1}"}] * 2} for n in range(14)},
        "rule 14": {"type": "string"},
    },
}
DOUBLING_BY_PLACE = {
    "allOf": [
        *({"allOf": [{"$ref": f"#/allOf/{n + 1}"}] * 2} for n in range(14)),
        {"type": "object"},
    ],
}


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ({"type": "strange"}, "strange"),
        ({"type": 5}, "5"),
        ({"type": [[]]}, "not a valid schema"),
        ({"properties": 5}, "5"),
        ({"properties": {"x": {"enum": 5}}}, "5"),
        ({"properties": {"x": {"pattern": "("}}}, "regex"),
        # Such a look ahead takes the square of a text's length, on the event loop.
        ({"properties": {"x": {"pattern": "(?=a)a+$"}}}, "regex"),
        ({"required": "prompt"}, "prompt"),
        ({"$ref": "https://example.com/schema.json"}, "may not refer to"),
        ({"$ref": "file:///etc/passwd"}, "may not refer to"),
        ({"$dynamicRef": "#meta"}, "may not refer to"),
        (DOUBLING, "more than 5000 rules"),
        (DOUBLING_ESCAPED, "more than 5000 rules"),
        (DOUBLING_BY_PLACE, "more than 5000 rules"),
        ({"properties": {"x": {"allOf": [{"$ref": "#/properties/x/allOf"}]}}}, "without end"),
        ({"properties": {"x": {"items": {"allOf": [{"minimum": 5}] * 3000}}}}, "5000 rules"),
        ({"properties": {"enum": {"items": {"allOf": [{"minimum": 5}] * 3000}}}}, "5000 rules"),
        ({"properties": {f"field_{n}": {} for n in range(5000)}}, "more than 5000 rules"),
        ({"$schema": "https://example.com/dialect"}, "example.com"),
        ({"properties": {"image": {"type": "string", "validations": [{}]}}}, "validation_rule"),
        ({"properties": {"image": {"type": "string", "validations": 5}}}, "validation_rule"),
    ],
)
def test_broken_schema_is_refused_by_its_rule(schema: dict[str, Any], rule: str) -> None:
    with pytest.raises(BrokenModelError) as caught:
        Model.parse(document(input_schema=schema))

    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fields_may_share_a_definition_and_have_thousands_of_options() -> None:
    schema = {
        "properties": {
            **{f"voice_{n}": {"$ref": "#/$defs/a~1voice%20"} for n in range(100)},
            "other": {
                "allOf": [{"$ref": "#/properties/voice_0"}, {"$ref": "#/$defs/seven/allOf/1"}]
            },
        },
        "$defs": {
            "a/voice ": {"enum": [f"v{n}" for n in range(5000)]},
            "seven": {"allOf": [{}, {"const": 7}]},
        },
    }
    model = Model.parse(document(input_schema=schema))

    assert not model.check({"voice_99": "v4999"}).errors
    assert [error.pointer for error in model.check({"voice_99": "x", "other": 7}).errors] == [
        "/input/voice_99",
        "/input/other",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {},
        document(model_id=5),
        document(model_id="one-part"),
        document(model_id="a/b/c/d/e/f"),
        document(model_id="a/../b"),
        document(model_id="../b"),
        document(model_id="a/\u00e9"),
        document(model_id="/a/b"),
        document(model_id="a/b c"),
        document(display_name=None),
        document(output_kind=None),
        document(input_schema=[]),
    ],
)
def test_what_is_no_description_of_a_model_is_refused(broken: Any) -> None:
    with pytest.raises(BrokenModelError):
        Model.parse(broken)
