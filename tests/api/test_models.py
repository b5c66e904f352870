"""/v1/models: the catalogue in RunComfy's own shape, errors included."""

from typing import Any

import httpx
import pytest

from tests.support.gateway import PUBLIC_URL, SEEDANCE, Gateway

pytestmark = pytest.mark.either_database


async def models(gateway: Gateway, **params: Any) -> dict[str, Any]:
    answer = await gateway.http.get("/v1/models", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def test_one_model_comes_with_its_schema(gateway: Gateway) -> None:
    model = (await gateway.http.get(f"/v1/models/{SEEDANCE}")).json()
    schema = model.pop("input_schema")
    assert model == {
        "model_id": SEEDANCE,
        "display_name": model["display_name"],
        "description": "",
        "categories": ["image-to-video"],
        "kind": "video",
        "output_kind": "video",
        "base_price_usd": None,
        "price_unit": None,
        "pricing_note": "",
        "model_url": "",
        "inputs": list(schema["properties"]),
        "required_inputs": ["prompt", "first_frame_image_url"],
        "schema_hash": model["schema_hash"],
    }
    assert schema["properties"]["duration"]["enum"] == list(range(2, 13))


async def test_the_price_in_force_is_shown(gateway: Gateway) -> None:
    lines = [
        {
            "model": SEEDANCE,
            "base_price_usd": "0.25",
            "price_unit": "second",
            "when": {"resolution": "1080p"},
        },
        {"model": SEEDANCE, "base_price_usd": "0.10", "price_unit": "second"},
    ]
    await gateway.admin.put("/v1/admin/prices", json={"prices": lines})
    model = (await gateway.http.get(f"/v1/models/{SEEDANCE}")).json()
    assert (model["base_price_usd"], model["price_unit"]) == (0.1, "second")
    assert model["pricing_note"] == "resolution 1080p: 0.25 US dollars per second"
    (listed,) = (await models(gateway, search="seedance-1-0/pro/image"))["models"]
    assert (listed["base_price_usd"], listed["price_unit"]) == (0.1, "second")


async def test_models_are_listed_in_pages(gateway: Gateway) -> None:
    page = await models(gateway)
    assert (page["limit"], page["offset"], page["total"]) == (100, 0, len(page["models"]))
    assert page["total"] > 50
    ids = [model["model_id"] for model in page["models"]]
    assert SEEDANCE in ids
    assert not any("input_schema" in model for model in page["models"])

    second = await models(gateway, limit=7, offset=7)
    assert [model["model_id"] for model in second["models"]] == ids[7:14]
    assert (second["limit"], second["offset"], second["total"]) == (7, 7, len(ids))
    assert (await models(gateway, offset=1000))["models"] == []
    full = await models(gateway, include_schema="true", limit=1)
    assert full["models"][0]["input_schema"]["properties"]


async def test_models_are_found_by_words_category_and_kind(gateway: Gateway) -> None:
    found = await models(gateway, search="SEEDANCE-1-0/pro")
    assert SEEDANCE in [model["model_id"] for model in found["models"]]
    assert (await models(gateway, search="no such thing"))["models"] == []
    videos = await models(gateway, kind="video", category="image-to-video")
    assert videos["models"]
    assert {model["kind"] for model in videos["models"]} == {"video"}
    assert all(model["categories"] == ["image-to-video"] for model in videos["models"])
    images = await models(gateway, kind="image")
    assert {model["kind"] for model in images["models"]} == {"image"}
    categories = (await gateway.http.get("/v1/models/categories")).json()["categories"]
    assert categories == sorted(categories)
    assert "image-to-video" in categories


async def test_a_key_sees_the_models_that_it_may_use(gateway: Gateway) -> None:
    key = {"user": "alice", "models": [SEEDANCE]}
    made = await gateway.admin.post("/v1/admin/keys", json=key)
    client = gateway.client_with(made.json()["key"])
    page = (await client.get("/v1/models")).json()
    assert ([model["model_id"] for model in page["models"]], page["total"]) == ([SEEDANCE], 1)
    categories = await client.get("/v1/models/categories")
    assert categories.json() == {"categories": ["image-to-video"]}
    assert (await client.get(f"/v1/models/{SEEDANCE}")).status_code == 200
    other = (await models(gateway, kind="image"))["models"][0]["model_id"]
    refused = await client.get(f"/v1/models/{other}")
    assert (refused.status_code, refused.json()["error_code"]) == (403, 403001)


async def test_an_unknown_model_is_refused_as_runcomfy_does(gateway: Gateway) -> None:
    for model_id in ("nobody/knows", "x", "", "%00", "a/" * 5000, "..%2f..", SEEDANCE.upper()):
        answer = await gateway.http.get(f"/v1/models/{model_id}")
        assert answer.status_code == 400, model_id[:40]
        body = answer.json()
        assert body == {"error_code": 400001, "error_message": body["error_message"]}
        assert "GET /v1/models lists every model" in body["error_message"]
        assert len(answer.text) < 1000


async def test_a_wrong_key_is_refused_as_runcomfy_does(gateway: Gateway) -> None:
    transport = httpx.ASGITransport(app=gateway.app)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as anybody:
        for path in ("/v1/models", "/v1/models/categories", f"/v1/models/{SEEDANCE}"):
            answer = await anybody.get(path)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.json() == {
                "error_code": 400004,
                "error_message": "Send an API key of this gateway as `Authorization: Bearer"
                " rcg_...`.",
            }


async def test_other_errors_have_runcomfys_shape_too(gateway: Gateway) -> None:
    wrong = await gateway.http.get("/v1/models?limit=501")
    assert wrong.status_code == 422
    message = "The query parameter 'limit': Input should be less than or equal to 500, not \"501\"."
    assert wrong.json() == {
        "error_code": 422001,
        "error_message": message,
        "detail": [{"loc": ["query", "limit"], "msg": message, "type": "invalid_parameter"}],
    }
    method = await gateway.http.delete("/v1/models")
    assert (method.status_code, method.headers["Allow"]) == (405, "GET")
    assert method.json()["error_code"] == 405001
    unknown = await gateway.http.get("/v1/requests/abc/status")
    assert unknown.status_code == 404
    assert unknown.json()["error_code"] == 404001
