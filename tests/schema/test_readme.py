"""What the README and the OpenAPI document promise is what the code has."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from openapi_spec_validator import OpenAPIV31SpecValidator

import app
from app.api.openapi import describe
from app.core.errors import ProblemError
from app.main import create_app
from app.sandbox.scenarios import FAULTS, WORDS
from app.settings import Settings, explicit_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def problems() -> dict[str, ProblemError]:
    for module in pkgutil.walk_packages(app.__path__, "app."):
        importlib.import_module(module.name)
    return {kind.code: kind for kind in _below(ProblemError)}


def _below(kind: type[ProblemError]) -> Iterator[type[ProblemError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def document() -> dict[str, object]:
    committed: dict[str, object] = json.loads((ROOT / "openapi" / "openapi.json").read_text())
    return committed


def test_every_code_is_in_the_table_of_errors() -> None:
    table = {code.strip("`"): int(status) for status, code, _ in rows_of("Errors")[1:]}
    assert table == {code: kind.status for code, kind in problems().items()}


def test_every_setting_is_in_the_table_with_its_default() -> None:
    table = {name.strip("`"): default.strip("`") for name, default, _ in rows_of("Settings")[1:]}
    assert table == {
        str(field.validation_alias or f"GATEWAY_{name.upper()}"): _shown(field.default)
        for name, field in Settings.model_fields.items()
    }


def _shown(default: object) -> str:
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case tuple():
            return ",".join(str(part) for part in default)
        case _:
            return str(default)


def test_every_word_of_the_sandbox_is_in_its_table() -> None:
    for name, word in WORDS.items():
        assert f"| `{name}` | {word.meaning} |" in README
    for fault, meaning in FAULTS.items():
        assert f"| `{fault}` | {meaning} |" in README


def test_the_committed_document_is_the_one_the_code_describes() -> None:
    settings = explicit_settings(upstream_url="sandbox")
    described = describe(create_app(settings, public_url="https://gateway.example"))
    assert document() == json.loads(json.dumps(described)), "run `make openapi` and commit"


def test_the_document_is_valid_and_names_every_code() -> None:
    described = document()
    OpenAPIV31SpecValidator(described).validate()
    assert described["openapi"] == "3.1.0"
    text = json.dumps(described)
    for code in problems().keys() - {"bad_request"}:
        assert re.search(rf"\b{code}\b", text), code
