"""POST /v1/jobs/validate: what a submit would say, without one."""

import json
from typing import Any

import pytest

from tests.support.answers import faults
from tests.support.gateway import Gateway

pytestmark = pytest.mark.either_database

UNPRICED = {"amount_usd": None, "state": "none"}


async def validate(gateway: Gateway, body: Any) -> dict[str, Any]:
    answer = await gateway.http.post("/v1/jobs/validate", content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    checked: dict[str, Any] = answer.json()
    return checked


async def test_a_good_request_is_shown_as_it_would_be_sent(gateway: Gateway) -> None:
    body = gateway.body()
    assert await validate(gateway, body) == {
        "valid": True,
        "errors": [],
        "input": body["input"] | {"resolution": "480p", "ratio": "adaptive"},
        "cost": UNPRICED | {"output_seconds": 2},
        "limits": [],
    }


async def test_a_bad_request_is_shown_with_all_its_faults(gateway: Gateway) -> None:
    body = gateway.body(duration=13, promt="?")
    checked = await validate(gateway, body)
    assert checked["valid"] is False
    assert [(error["pointer"], error["code"]) for error in checked["errors"]] == [
        ("/input/duration", "enum"),
        ("/input/promt", "unknown_field"),
    ]
    submitted = await gateway.http.post("/v1/jobs", json=body)
    assert submitted.json()["errors"] == checked["errors"]


async def test_an_unknown_model_is_one_of_the_faults(gateway: Gateway) -> None:
    body = gateway.body() | {"model": "nobody/knows"}
    checked = await validate(gateway, body)
    assert [(error["pointer"], error["code"]) for error in checked.pop("errors")] == [
        ("/model", "unknown_model")
    ]
    assert checked == {
        "valid": False,
        "input": body["input"],
        "cost": UNPRICED | {"output_seconds": None},
        "limits": [],
    }


async def test_a_price_that_a_limit_asks_for_is_one_of_the_faults(gateway: Gateway) -> None:
    limits = {"limits": {"spend_usd_per_day": {"limit": 1}}}
    await gateway.admin.patch("/v1/admin/users/alice", json=limits)
    body = gateway.body()
    checked = await validate(gateway, body)
    assert [(error["pointer"], error["code"]) for error in checked["errors"]] == [
        ("/model", "price_unknown")
    ]
    assert (checked["valid"], checked["cost"]["amount_usd"]) == (False, None)
    assert (await gateway.http.post("/v1/jobs", json=body)).json()["errors"] == checked["errors"]
    wrong = await validate(gateway, gateway.body(duration=13))
    assert [error["code"] for error in wrong["errors"]] == ["enum"]


async def test_what_is_no_request_at_all_is_refused(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v1/jobs/validate", json={"model": "a/b", "inputs": {}})
    assert faults(answer) == [("/input", "required"), ("/inputs", "unknown_field")]


async def test_nothing_is_kept_and_nothing_is_sent(gateway: Gateway) -> None:
    await validate(gateway, gateway.body())
    await validate(gateway, gateway.body(duration=13))
    assert (await gateway.http.get("/v1/jobs")).json()["data"] == []
    assert await gateway.dispatch() == 0
    seen = (await gateway.sandbox.http.get("/sandbox/requests")).json()
    assert seen == {"requests": [], "calls": {}}
