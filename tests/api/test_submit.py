"""POST /v1/jobs: what is accepted as it stands, and what is refused before anything happens."""

import json
from typing import Any
from urllib.parse import urljoin

import pytest

from app.core.clock import ManualClock
from tests.support.answers import faults, problem
from tests.support.gateway import PUBLIC_URL, SEEDANCE, Gateway, Sandbox, running

pytestmark = pytest.mark.either_database


async def refused(gateway: Gateway, body: Any) -> list[tuple[str, str]]:
    """Submit what must be refused; nothing of it may stay."""
    # Escaped, so that halves of surrogate pairs get through.
    answer = await gateway.http.post("/v1/jobs", content=json.dumps(body))
    assert (await gateway.http.get("/v1/jobs")).json()["data"] == []
    return faults(answer)


async def test_defaults_of_settings_are_filled_in_and_samples_are_not(gateway: Gateway) -> None:
    body = gateway.body()
    del body["input"]["duration"]
    answer = await gateway.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    assert answer.json()["input"] == body["input"] | {
        "duration": 5,
        "resolution": "480p",
        "ratio": "adaptive",
    }
    assert answer.json()["cost"] == {"amount_usd": None, "output_seconds": 5, "state": "held"}


async def test_what_was_answered_is_what_is_read_later(gateway: Gateway) -> None:
    metadata = {"order": "4711", "": "empty key", "naïve 🎬": "", 'a"b.c[d]': "'%_\\"}
    answer = await gateway.http.post("/v1/jobs", json=gateway.body() | {"metadata": metadata})
    job = answer.json()
    assert job["metadata"] == metadata
    read = await gateway.http.get(answer.headers["Location"])
    assert read.json() == job


async def test_a_job_is_where_its_answer_says_below_a_path_too(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    public_url = f"{PUBLIC_URL}/video"
    async with running(
        database_url, sandbox=sandbox, clock=clock, public_url=public_url
    ) as gateway:
        answer = await gateway.http.post("/v1/jobs", json=gateway.body())
    assert urljoin(public_url, answer.headers["Location"]) == answer.json()["urls"]["self"]


async def test_an_empty_prompt_is_allowed_and_an_empty_picture_is_not(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/jobs", json=gateway.body(first_frame_image_url=""))
    assert faults(answer) == [("/input/first_frame_image_url", "media_url")]
    answer = await gateway.http.post("/v1/jobs", json=gateway.body(prompt=""))
    assert answer.status_code == 202
    assert answer.json()["input"]["prompt"] == ""


async def test_metadata_may_be_as_large_as_promised(gateway: Gateway) -> None:
    metadata = {f"{n:🎬>40}": "ü" * 500 for n in range(50)}
    answer = await gateway.http.post("/v1/jobs", json=gateway.body() | {"metadata": metadata})
    assert answer.status_code == 202
    assert (await gateway.read(answer.json()))["metadata"] == metadata


async def test_metadata_beyond_its_limits_is_refused_by_name(gateway: Gateway) -> None:
    refusals: list[tuple[Any, list[tuple[str, str]]]] = [
        ({str(n): "" for n in range(51)}, [("/metadata", "max_properties")]),
        ({"k" * 41: ""}, [("/metadata/" + "k" * 41, "max_length")]),
        ({"k": "v" * 501}, [("/metadata/k", "max_length")]),
        ({"a/b~c": 7, "[key]": None}, [("/metadata/a~1b~0c", "type"), ("/metadata/[key]", "type")]),
        (["order"], [("/metadata", "type")]),
        ({"k": "a\0b"}, [("/metadata/k", "invalid_text")]),
        ({"\ud800": ""}, [("/metadata", "invalid_text")]),
    ]
    for metadata, found in refusals:
        assert await refused(gateway, gateway.body() | {"metadata": metadata}) == found


async def test_text_that_is_none_is_found_wherever_it_stands(gateway: Gateway) -> None:
    settings = {"list": ["\U0001f3ac", ["a\0b"], {"\ud83c": 1}], "deep": {"er": {"k": "\udfac"}}}
    assert await refused(gateway, gateway.body() | {"input": settings}) == [
        ("/input/list/1/0", "invalid_text"),
        ("/input/list/2", "invalid_text"),
        ("/input/deep/er/k", "invalid_text"),
    ]
    for many, told in ((1, 1), (101, 100)):
        only_in_a_list = gateway.body() | {"input": {"list": [["a\0b"] * many]}}
        found = await refused(gateway, only_in_a_list)
        assert found == [(f"/input/list/0/{n}", "invalid_text") for n in range(told)]


async def test_a_body_that_is_no_job_is_refused_field_by_field(gateway: Gateway) -> None:
    assert await refused(gateway, []) == [("", "type")]
    assert await refused(gateway, "job") == [("", "type")]
    assert await refused(gateway, None) == [("", "type")]
    assert await refused(gateway, {}) == [("/model", "required"), ("/input", "required")]
    assert await refused(gateway, {"model": 7, "input": []}) == [
        ("/model", "type"),
        ("/input", "type"),
    ]


async def test_the_first_hundred_faults_of_a_body_are_named(gateway: Gateway) -> None:
    many = {f"modle{number}": 1 for number in range(200)}
    for body in ({"input": []} | many, gateway.body() | {"metadata": many}):
        assert len(await refused(gateway, body)) == 100
    assert (await refused(gateway, {"input": []} | many))[:2] == [
        ("/model", "required"),
        ("/input", "type"),
    ]


async def test_a_setting_that_breaks_a_rule_is_named_with_its_value(gateway: Gateway) -> None:
    wrong = {"priority": "urgent", "start_within_seconds": 0}
    answer = await gateway.http.post("/v1/jobs", json=gateway.body() | wrong)
    assert [error["detail"] for error in problem(answer)["errors"]] == [
        "/priority is refused: Input should be 'high', 'normal' or 'low', not \"urgent\".",
        "/start_within_seconds is refused: Input should be greater than or equal to 1, not 0.",
    ]
    for value, shown in ((1.5, "1.5"), (True, "true"), ("60", '"60"'), ([60], None)):
        body = gateway.body() | {"start_within_seconds": value}
        (error,) = problem(await gateway.http.post("/v1/jobs", json=body))["errors"]
        assert error["detail"].endswith(f", not {shown}." if shown else "valid integer."), error
    private = gateway.body() | {"metadata": {"order": 4711}}
    assert "4711" not in (await gateway.http.post("/v1/jobs", json=private)).text


async def test_an_unknown_field_is_refused_with_the_one_that_was_meant(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/jobs", json=gateway.body() | {"metdata": {}})
    assert problem(answer) == {
        "status": 422,
        "code": "invalid_request",
        "detail": "The body breaks the rules of this call; `errors` names each field.",
        "errors": [
            {
                "pointer": "/metdata",
                "code": "unknown_field",
                "detail": "/metdata is not known (did you mean 'metadata'?).",
            }
        ],
    }


async def test_fields_of_later_releases_are_refused_not_ignored(gateway: Gateway) -> None:
    later = {"deadline": "2026-11-23T00:00:00Z"}
    assert await refused(gateway, gateway.body() | later) == [("/deadline", "unknown_field")]


async def test_an_unknown_model_is_refused_with_the_one_that_was_meant(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/jobs", json=gateway.body() | {"model": SEEDANCE.upper()})
    body = problem(answer)
    detail = body["detail"]
    assert body == {
        "status": 422,
        "code": "unknown_model",
        "detail": detail,
        "errors": [{"pointer": "/model", "code": "unknown_model", "detail": detail}],
    }
    assert f'no model "{SEEDANCE.upper()}" here. Did you mean {SEEDANCE} or ' in detail


async def test_every_fault_of_an_input_is_named_at_once(gateway: Gateway) -> None:
    body = {
        "model": SEEDANCE,
        "input": {"first_frame_image_url": "ftp://x", "duration": 13, "ratio": 1, "promt": "a"},
    }
    answer = await gateway.http.post("/v1/jobs", json=body)
    assert problem(answer)["code"] == "invalid_input"
    assert faults(answer) == [
        ("/input/prompt", "required"),
        ("/input/first_frame_image_url", "media_url"),
        ("/input/ratio", "type"),
        ("/input/duration", "enum"),
        ("/input/promt", "unknown_field"),
    ]
    assert "one of 2, 3, 4" in answer.json()["errors"][3]["detail"]


async def test_text_that_cannot_be_stored_is_refused_at_its_place(gateway: Gateway) -> None:
    assert await refused(gateway, gateway.body(prompt="a\0b", first_frame_image_url="\udfff")) == [
        ("/input/prompt", "invalid_text"),
        ("/input/first_frame_image_url", "invalid_text"),
    ]
    assert await refused(gateway, gateway.body() | {"model": "\0"}) == [("/model", "invalid_text")]


async def test_numbers_beyond_any_machine_are_refused_as_faults(gateway: Gateway) -> None:
    for duration in (10**900, -(10**900), 1e300, True, "5", 5.5, None, [5], {"s": 5}):
        found = await refused(gateway, gateway.body(duration=duration))
        assert [pointer for pointer, _ in found] == ["/input/duration"], duration


async def test_a_refused_submit_reaches_nobody(gateway: Gateway) -> None:
    await refused(gateway, gateway.body(duration=99))
    assert await gateway.dispatch() == 0
    seen = (await gateway.sandbox.http.get("/sandbox/requests")).json()
    assert seen == {"requests": [], "calls": {}}
