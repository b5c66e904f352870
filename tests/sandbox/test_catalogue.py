"""The catalogue calls and their made-up prices."""

import json
from pathlib import Path

import pytest

from app.core import bundled
from app.sandbox.catalogue import Catalogue
from tests.sandbox.caller import SEEDANCE, Sandbox


async def test_one_model_tells_everything(sandbox: Sandbox) -> None:
    entry = (await sandbox.http.get(f"/v1/models/{SEEDANCE}")).json()
    schema = entry.pop("input_schema")
    assert entry.pop("display_name")
    assert entry.pop("description")
    assert entry == {
        "model_id": SEEDANCE,
        "categories": ["video", "image-to-video"],
        "kind": "video",
        "base_price_usd": 0.10,
        "price_unit": "second",
        "pricing_note": "Made up by the sandbox: nothing is charged.",
        "model_url": f"https://www.runcomfy.com/models/{SEEDANCE}",
        "inputs": list(schema["properties"]),
        "required_inputs": ["prompt", "first_frame_image_url"],
    }


async def test_the_catalogue_is_searched_and_paged(sandbox: Sandbox) -> None:
    everything = (await sandbox.http.get("/v1/models?limit=500")).json()
    total = everything["total"]
    assert len(everything["models"]) == total == len(list(bundled.models().glob("*.json")))
    assert "input_schema" not in everything["models"][0]

    page = (await sandbox.http.get("/v1/models?limit=3&offset=2")).json()
    assert (page["limit"], page["offset"], page["total"]) == (3, 2, total)
    assert page["models"] == everything["models"][2:5]

    found = (await sandbox.http.get("/v1/models?search=SEEDANCE-1-0&include_schema=true")).json()
    assert SEEDANCE in {model["model_id"] for model in found["models"]}
    assert all("seedance-1-0" in model["model_id"] for model in found["models"])
    assert all(model["input_schema"]["properties"] for model in found["models"])


async def test_kinds_and_categories_filter(sandbox: Sandbox) -> None:
    categories = (await sandbox.http.get("/v1/models/categories")).json()["categories"]
    assert {"video", "image", "image-to-video"} <= set(categories)
    images = (await sandbox.http.get("/v1/models?kind=image&limit=500")).json()["models"]
    assert {(model["kind"], model["price_unit"]) for model in images} == {("image", "output")}
    tasks = (await sandbox.http.get("/v1/models?category=image-to-video")).json()["models"]
    assert all("image-to-video" in model["categories"] for model in tasks)


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "offset=-1"])
async def test_a_bad_page_is_refused(sandbox: Sandbox, query: str) -> None:
    answer = await sandbox.http.get(f"/v1/models?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_an_unknown_model_is_400001(sandbox: Sandbox) -> None:
    answer = await sandbox.http.get("/v1/models/no/such")
    assert (answer.status_code, answer.json()["error_code"]) == (400, 400001)


def test_prices_are_the_same_every_time_and_never_nothing() -> None:
    once, again = (
        Catalogue.read(bundled.models()).search(text="", category="", kind="") for _ in "12"
    )
    assert [model.price for model in once] == [model.price for model in again]
    assert all(0 < model.price < 1 for model in once)


def test_the_model_files_may_lie_elsewhere(tmp_path: Path) -> None:
    facts = {"model_id": "me/mine", "output_kind": "audio", "input_schema": {"type": "object"}}
    (tmp_path / "mine.json").write_text(json.dumps(facts), "utf-8")
    model = Catalogue.read(tmp_path).find("me/mine")
    assert model
    assert (model.display_name, model.unit, model.categories) == ("me/mine", "output", ["audio"])
