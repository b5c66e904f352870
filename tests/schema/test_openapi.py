"""The OpenAPI document, as who generates a client from it needs it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.deps import CALLER_PROBLEMS
from app.jobs.lanes.lane import Reason


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    committed: dict[str, Any] = json.loads(Path("openapi/openapi.json").read_text())
    return committed


def test_every_call_says_what_it_is_for_and_how_it_fails(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in _operations(document)]
    assert len(names) == len(set(names))
    for path, operation in _operations(document):
        assert operation["summary"], path
        assert operation["tags"], path
        failures = {
            status: answer
            for status, answer in operation["responses"].items()
            if status == "default" or int(status) >= 400
        }
        assert "default" in failures, path
        for answer in failures.values():
            ((media_type, content),) = answer["content"].items()
            like_runcomfy = path.startswith(("/v1/models", "/v1/requests"))
            assert media_type == f"application/{'json' if like_runcomfy else 'problem+json'}"
            assert content["examples"], path


def test_how_callers_fail_stands_beside_how_a_call_fails(document: dict[str, Any]) -> None:
    for path, operation in _operations(document):
        answers = operation["responses"]
        for answer in answers.values():
            said = answer["description"].split("; ")
            assert len(said) == len(set(said)), path
        if {"HTTPBearer": []} in operation.get("security", []):
            for problem in CALLER_PROBLEMS:
                (content,) = answers[str(problem.status)]["content"].values()
                assert problem.code in content["examples"], path


def test_whoever_sends_a_parameter_may_be_told_that_it_breaks_a_rule(
    document: dict[str, Any],
) -> None:
    for path, operation in _operations(document):
        if any(parameter["in"] == "query" for parameter in operation.get("parameters", [])):
            (content,) = operation["responses"]["422"]["content"].values()
            assert "invalid_parameter" in content["examples"], path


def test_a_lane_may_be_closed_for_every_reason(document: dict[str, Any]) -> None:
    words, _ = document["components"]["schemas"]["LaneRead"]["properties"]["reason"]["anyOf"]
    assert set(words["enum"]) == {"operator", *Reason}


def test_what_reads_take_beside_their_path_is_told(document: dict[str, Any]) -> None:
    download = {"X-Gateway-User", "If-None-Match", "If-Range", "Range"}
    for path, names in {
        "/v1/jobs/{job_id}": {"X-Gateway-User", "If-None-Match", "Prefer"},
        "/v1/jobs/{job_id}/outputs/{n}": download,
        "/v1/files/{file_id}/content": download,
    }.items():
        parameters = document["paths"][path]["get"]["parameters"]
        assert {each["name"] for each in parameters if each["in"] == "header"} == names


def test_jobs_can_be_found_by_metadata(document: dict[str, Any]) -> None:
    for path in ("/v1/jobs", "/v1/admin/jobs"):
        parameters = document["paths"][path]["get"]["parameters"]
        (metadata,) = (each for each in parameters if each["name"] == "metadata")
        assert (metadata["in"], metadata["style"]) == ("query", "deepObject")


def test_usage_is_told_as_a_file_too(document: dict[str, Any]) -> None:
    for path in ("/v1/usage", "/v1/admin/usage"):
        answer = document["paths"][path]["get"]["responses"]["200"]
        assert list(answer["content"]) == ["application/json", "text/csv"]


def test_a_bearer_token_is_needed_for_all_but_health(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes.keys() == {"HTTPBearer", "AdminToken"}
    assert all((each["type"], each["scheme"]) == ("http", "bearer") for each in schemes.values())
    for path, operation in _operations(document):
        if path in {"/healthz", "/readyz"}:
            assert "security" not in operation
        else:
            needed = "AdminToken" if path.startswith("/v1/admin/") else "HTTPBearer"
            assert operation["security"][0] == {needed: []}, path


def test_null_is_as_good_as_nothing_in_what_is_made(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    told = set[str]()
    for path, operations in document["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        for name, part in schema.get("properties", {}).items():
            if name not in schema.get("required", ()):
                assert {"type": "null"} in part["anyOf"], (path, name)
                told.add(name)
    assert {"metadata", "priority", "expires_in", "events", "limits", "overlap_seconds"} <= told


def test_no_reference_leads_nowhere_and_no_schema_is_left_over(document: dict[str, Any]) -> None:
    prefix = "#/components/schemas/"
    used = {reference.removeprefix(prefix) for reference in _references(document)}
    assert used == set(document["components"]["schemas"])
    assert {"JobCreate", "JobRead", "ProblemRead"} <= used
    assert not used & {"HTTPValidationError", "ValidationError"}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation


def _references(value: Any) -> Iterator[str]:
    match value:
        case dict():
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for item in value.values():
                yield from _references(item)
        case list():
            for item in value:
                yield from _references(item)
