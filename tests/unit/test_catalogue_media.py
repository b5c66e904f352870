"""Media fields: recognised whatever their name, checked as addresses, and listed for inspection."""

from typing import Any

import pytest

from app.catalogue.media import MediaCheck, MediaRule
from app.catalogue.model import Model
from app.catalogue.service import Catalogue
from app.core.errors import FieldError
from app.net.reach import Reach

PNG = "data:image/png;base64,iVBORw0KGgo="
TEXT: dict[str, Any] = {"type": "string"}
LIST: dict[str, Any] = {"type": "array"}
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


def model(**fields: Any) -> Model:
    return Model.parse(
        {
            "model_id": "acme/dream",
            "display_name": "Dream",
            "output_kind": "video",
            "input_schema": {"type": "object", "properties": fields},
        }
    )


NAMES = {
    "image": [
        *("image", "images", "image_url", "img_url", "image_urls", "imageURL", "imageUrls"),
        *("image_1", "image2", "image_tail", "input_image", "first_frame_image_url"),
        *("start_image_url", "end_image", "last_image", "first_frame", "reference_images"),
        *("keyframes", "mask_url", "photo", "picture", "image_start", "image_end", "image_first"),
        *("image_last", "image_head", "image_input", "image_ref", "image_reference", "image_list"),
    ],
    "video": ["video", "video_url", "reference_videos", "driving_video", "clip"],
    "audio": ["audio", "audios", "audio_file", "reference_audio_urls"],
    "media": ["url", "source_url", "source_uris"],
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("field", [TEXT, TEXTS, LIST, {"type": ["string", "null"]}, {}])
def test_media_field_is_recognised_by_name(kind: str, field: dict[str, Any]) -> None:
    value = ["https://example.com/a"] if field in (TEXTS, LIST) else "https://example.com/a"
    for name in NAMES[kind]:
        recognising = model(**{name: field})
        assert recognising.media_fields == (name,)
        assert [check.kind for check in recognising.check({name: value}).media] == [kind]


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ({"type": "string", "format": "image_uri"}, "image"),
        ({"type": "string", "format": "video_uri"}, "video"),
        ({"type": "string", "format": "audio_uri"}, "audio"),
        ({"type": "array", "format": "image_uris"}, "image"),
        ({"type": "array", "format": "video_uris"}, "video"),
        ({"type": "array", "format": "audio_uris"}, "audio"),
        ({"type": "array", "items": {"type": "string", "format": "audio_uri"}}, "audio"),
        (
            {
                "type": "string",
                "validations": [{"validation_rule": "file_size_mb<", "validation_value": 16}],
            },
            "media",
        ),
    ],
)
def test_media_field_is_recognised_by_its_schema_whatever_its_name(
    field: dict[str, Any], kind: str
) -> None:
    value = ["https://example.com/a"] if field["type"] == "array" else "https://example.com/a"
    checked = model(subject=field).check({"subject": value})

    assert checked.errors == []
    assert [check.kind for check in checked.media] == [kind]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *((name, TEXT) for name in ("prompt", "image_size", "image_prompt", "image_style")),
        *((name, TEXT) for name in ("video_length", "audio_setting", "output_format")),
        *((name, TEXT) for name in ("negative_prompt", "frame_rate", "lyrics")),
        ("tags", TEXTS),
        ("list", TEXTS),
        ("", TEXT),
        ("num_images", {"type": "integer"}),
        ("image", {"type": "integer"}),
        ("image_strength", {"type": "float"}),
        ("generate_audio", {"type": "boolean"}),
        ("audio", {"type": "boolean"}),
        ("image", {"type": "string", "enum": ["small", "large"]}),
        ("images", {"type": "array", "items": {"enum": ["small", "large"]}}),
        ("images", {"type": "array", "items": {"type": "object"}}),
        ("video", {"type": "object"}),
    ],
)
def test_settings_and_texts_are_no_media_fields(name: str, field: dict[str, Any]) -> None:
    assert model(**{name: field}).media_fields == ()


def test_media_fields_of_all_bundled_models_are_those_the_schemas_mark() -> None:
    for each in Catalogue.bundled().list():
        marked = [
            name
            for name, field in each.input_schema["properties"].items()
            if "_uri" in field.get("format", "") or "validations" in field
        ]
        assert list(each.media_fields) == marked


def test_names_alone_tell_the_media_fields_of_all_bundled_models() -> None:
    for each in Catalogue.bundled().list():
        bare = {
            name: {keyword: field[keyword] for keyword in ("type", "enum") if keyword in field}
            for name, field in each.input_schema["properties"].items()
        }
        assert model(**bare).media_fields == each.media_fields


def test_rules_are_carried_as_a_list_of_what_to_inspect() -> None:
    seed = Catalogue.bundled().get("bytedance/seedance-1-0/pro/image-to-video")
    checked = seed.check({"prompt": "x", "first_frame_image_url": "https://example.com/a.png"})

    large = "The uploaded image width and height must not exceed 6000 pixels."
    small = "The uploaded image width and height must not be less than 300 pixels."
    ratio = "The aspect ratio range should be between 0.4 and 2.5."
    assert checked.media == [
        MediaCheck(
            pointer="/input/first_frame_image_url",
            value="https://example.com/a.png",
            kind="image",
            rules=(
                MediaRule("width_pixels<", 6000, large),
                MediaRule("height_pixels<", 6000, large),
                MediaRule("width_pixels>", 300, small),
                MediaRule("height_pixels>", 300, small),
                MediaRule("width/height>", 0.4, ratio),
                MediaRule("width/height<", 2.5, ratio),
                MediaRule("file_size_mb<", 30, "File size must be less than 30 MB."),
            ),
        )
    ]


def test_rule_without_a_message_gets_one() -> None:
    rule = {"validation_rule": "file_size_mb<", "validation_value": 16}
    checked = model(images={"type": "array", "items": {"validations": [rule]}}).check(
        {"images": [PNG]}
    )
    assert checked.media == [
        MediaCheck(
            pointer="/input/images/0",
            value=PNG,
            kind="image",
            rules=(MediaRule("file_size_mb<", 16, "The file must satisfy file_size_mb< 16."),),
        )
    ]


def test_each_element_of_a_list_is_checked_and_pointed_at() -> None:
    checked = model(images=LIST).check({"images": [PNG, 5, "http://example.com/", ""]})

    assert [check.pointer for check in checked.media] == ["/input/images/0"]
    assert [(error.pointer, error.code) for error in checked.errors] == [
        ("/input/images/1", "type"),
        ("/input/images/2", "media_url"),
        ("/input/images/3", "media_url"),
    ]


def test_a_field_names_a_hundred_files_at_most() -> None:
    """Each is looked at before the answer."""
    assert len(model(images=LIST).check({"images": [PNG] * 100}).media) == 100
    checked = model(images=LIST).check({"images": [PNG] * 101})
    assert checked.media == []
    assert checked.errors == [
        FieldError(
            pointer="/input/images",
            code="max_items",
            detail="`images` must have at most 100 item(s).",
        )
    ]


def test_element_of_the_wrong_type_is_named_once() -> None:
    checked = model(images=TEXTS).check({"images": [5]})
    assert [(error.pointer, error.code) for error in checked.errors] == [
        ("/input/images/0", "type")
    ]


def test_list_where_one_file_belongs_is_named_once() -> None:
    checked = model(image=TEXT).check({"image": ["http://example.com/"]})
    assert [(error.pointer, error.code) for error in checked.errors] == [("/input/image", "type")]
    assert checked.media == []


def test_optional_media_left_out_is_nothing_to_inspect() -> None:
    assert model(image=TEXT).check({}).media == []


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("", "is empty"),
        ("http://example.com/a.png", "must be an https:// URL"),
        ("file_0123", "must be an https:// URL"),
        ("https://u:p@example.com/", "must not contain a user name or password"),
        ("https://example.com/#x", "must not contain a fragment, the part from # on"),
        (
            "https://127.1/",
            "must lead to a host on the public internet",
        ),
        ("https://localhost/", "must lead to a host on the public internet"),
    ],
)
def test_address_that_is_not_public_https_is_refused_without_quoting_it(
    url: str, flaw: str
) -> None:
    assert model(image=TEXT).check({"image": url}).errors == [
        FieldError(
            pointer="/input/image",
            code="media_url",
            detail=(
                f"`image` {flaw}; a public https:// URL, a base64 data URI or a file_... of yours"
                " may stand here."
            ),
        )
    ]


def test_private_networks_can_be_allowed() -> None:
    private = {"image": "http://localhost:9000/a.png"}
    assert len(model(image=TEXT).check(private).errors) == 1
    assert model(image=TEXT).check(private, reach=Reach(private=True)).errors == []


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("image", PNG),
        ("image", "DATA:IMAGE/PNG;BASE64,iVBORw0KGgo="),
        ("image", "data:image/svg+xml;charset=utf-8;base64,PHN2Zz4="),
        ("video", "data:video/mp4;base64,AAAA"),
        ("audio", "data:audio/mpeg;base64,AAAA"),
        ("url", "data:video/mp4;base64,AAAA"),
    ],
)
def test_data_uri_of_the_right_kind_is_fine(name: str, uri: str) -> None:
    checked = model(**{name: TEXT}).check({name: uri})

    assert checked.errors == []
    assert [check.value for check in checked.media] == [uri]


@pytest.mark.parametrize(
    ("uri", "flaw"),
    [
        *(
            (uri, "must be a data URI of the form data:image/*;base64,<data>")
            for uri in (
                *("data:", "data:,x", "data:;base64,AAAA", "data:image/png,AAAA"),
                *("data:image;base64,AAAA", f"data:image/{'x' * 300};base64,AAAA"),
            )
        ),
        (
            "data:video/mp4;base64,AAAA",
            "must be a data URI of the media type image: data:image/*;base64,<data>",
        ),
        (
            "data:text/html;base64,AAAA",
            "must be a data URI of the media type image: data:image/*;base64,<data>",
        ),
        ("data:image/png;base64,", "must be a data URI that is not empty"),
        *(
            (
                f"data:image/png;base64,{payload}",
                "must be a data URI with valid base64, padded and without line breaks",
            )
            for payload in (
                *("A", "AAA", "AA=A", "=AAA", "AAAA=", "AA\nAA", "AA\n\n\n\nAA", "AA-----A"),
                *("AAAA====", "AA==AAAA", "AA AA", "A-_A", "AAÄA"),
            )
        ),
    ],
)
def test_broken_data_uri_is_refused_without_quoting_it(uri: str, flaw: str) -> None:
    assert model(image=TEXT).check({"image": uri}).errors == [
        FieldError(pointer="/input/image", code="media_data_uri", detail=f"`image` {flaw}.")
    ]


def test_data_uri_for_any_media_names_all_three_kinds() -> None:
    [error] = model(url=TEXT).check({"url": "data:text/html;base64,AAAA"}).errors
    assert "audio or image or video" in error.detail
