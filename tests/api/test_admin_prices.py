"""The table of prices: replaced as a whole, checked line by line."""

import asyncio
from typing import Any

import pytest

from app.db.engine import open_database
from app.quotas.prices import PricesService
from tests.support.gateway import SEEDANCE, Gateway

pytestmark = pytest.mark.either_database


async def put(gateway: Gateway, *lines: Any) -> Any:
    return await gateway.admin.put("/v1/admin/prices", json={"prices": lines})


def line(**fields: Any) -> dict[str, Any]:
    return {"model": SEEDANCE, "base_price_usd": "0.10", "price_unit": "second"} | fields


async def test_the_table_is_replaced_and_read_as_it_was_written(gateway: Gateway) -> None:
    assert (await gateway.admin.get("/v1/admin/prices")).json() == {"prices": []}
    free = line(model="google/nano-banana-2/text-to-image", base_price_usd="0")
    half = line(base_price_usd="0.05", when={"resolution": "480p", "duration": "5"})
    answer = await put(
        gateway,
        line(),
        line(base_price_usd=0.25, when={"resolution": "1080p", "duration": 5}),
        half,
        free,
    )
    assert answer.status_code == 200
    table = {
        "prices": [
            line(when={}),
            line(base_price_usd="0.25", when={"resolution": "1080p", "duration": "5"}),
            half,
            free | {"when": {}},
        ]
    }
    assert answer.json() == table
    assert (await gateway.admin.get("/v1/admin/prices")).json() == table
    # What was read can be sent back.
    assert (await gateway.admin.put("/v1/admin/prices", json=table)).json() == table
    assert (await put(gateway)).json() == {"prices": []}
    audit = await gateway.audited()
    assert [entry["action"] for entry in audit] == ["prices.replaced"] * 3
    assert (audit[0]["before"], audit[0]["after"]) == (table, {"prices": []})


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"model": "bytedance/nope"}, "/prices/0/model", "unknown_model"),
        ({"when": {"a/b": ["480p"]}}, "/prices/0/when/a~1b", "type"),
        ({"when": {"duration": None}}, "/prices/0/when/duration", "type"),
        ({"when": {"duration": "5" * 501}}, "/prices/0/when/duration", "max_length"),
        ({"base_price_usd": "-0.10"}, "/prices/0/base_price_usd", "price"),
        ({"base_price_usd": -1}, "/prices/0/base_price_usd", "price"),
        ({"base_price_usd": 1_000_001}, "/prices/0/base_price_usd", "price"),
        ({"base_price_usd": "0.1234567"}, "/prices/0/base_price_usd", "price"),
        ({"base_price_usd": "NaN"}, "/prices/0/base_price_usd", "price"),
        ({"base_price_usd": True}, "/prices/0/base_price_usd", "price"),
        ({"base_price_usd": None}, "/prices/0/base_price_usd", "price"),
        ({"price_unit": "minute"}, "/prices/0/price_unit", "enum"),
        ({"when": {"resolutoin": "1080p"}}, "/prices/0/when/resolutoin", "unknown_field"),
        ({"when": {"resolution": "1080P"}}, "/prices/0/when/resolution", "enum"),
        ({"when": {"duration": 5.5}}, "/prices/0/when/duration", "enum"),
        ({"currency": "EUR"}, "/prices/0/currency", "unknown_field"),
    ],
)
async def test_a_wrong_line_is_named_and_the_table_stays(
    gateway: Gateway, fields: Any, pointer: str, code: str
) -> None:
    await put(gateway, line())
    answer = await put(gateway, line(**fields))
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert [(error["pointer"], error["code"]) for error in errors] == [(pointer, code)]
    assert (await gateway.admin.get("/v1/admin/prices")).json() == {"prices": [line(when={})]}


async def test_an_unknown_field_of_a_line_is_not_compared_with_those_around_it(
    gateway: Gateway,
) -> None:
    (error,) = (await put(gateway, line(price=1))).json()["errors"]
    assert error["detail"] == "/prices/0/price is not known."


async def test_two_lines_for_the_same_are_refused(gateway: Gateway) -> None:
    answer = await put(
        gateway, line(when={"duration": 5}), line(), line(when={"duration": "5"}, base_price_usd=1)
    )
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/prices/2", "duplicate")


async def test_a_table_has_at_most_a_thousand_lines(gateway: Gateway) -> None:
    answer = await put(gateway, *[line()] * 1000)
    assert {error["code"] for error in answer.json()["errors"]} == {"duplicate"}
    answer = await put(gateway, *[line()] * 1001)
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error) == (
        422,
        {
            "pointer": "/prices",
            "code": "max_items",
            "detail": "/prices must have at most 1000 entries.",
        },
    )


async def test_the_first_hundred_faults_of_a_table_are_named(gateway: Gateway) -> None:
    answer = await put(gateway, *[line(model=f"bytedance/nope-{n}") for n in range(101)])
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == [f"/prices/{n}/model" for n in range(100)]


async def test_rivals_leave_the_table_of_one_of_them(gateway: Gateway) -> None:
    async def replace(price: int) -> int:
        answer = await put(gateway, line(base_price_usd=price), line(when={"duration": price}))
        return int(answer.status_code)

    assert await asyncio.gather(*map(replace, range(2, 10))) == [200] * 8
    first, second = (await gateway.admin.get("/v1/admin/prices")).json()["prices"]
    assert first["base_price_usd"] == second["when"]["duration"]


async def test_prices_in_use_are_at_most_a_second_old(gateway: Gateway, database_url: str) -> None:
    prices = gateway.app.state.services.prices
    assert await prices.current() == ()
    await put(gateway, line())
    assert len(await prices.current()) == 1  # its own change at once

    database = open_database(database_url)
    replica = PricesService(database=database, clock=gateway.clock, models=dict)
    assert len(await replica.current()) == 1
    await put(gateway)
    assert len(await replica.current()) == 1
    gateway.wait(1)
    assert await replica.current() == ()
    await database.close()
