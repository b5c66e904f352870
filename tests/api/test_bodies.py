"""Bodies that are no JSON, no UTF-8, too deep or too long."""

import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.core.clock import ManualClock
from tests.support.answers import problem
from tests.support.asgi import in_chunks
from tests.support.gateway import Gateway, Sandbox, running

pytestmark = pytest.mark.either_database


async def post(gateway: Gateway, content: bytes | AsyncIterator[bytes]) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return await gateway.http.post("/v1/jobs", content=content, headers=headers)


async def test_what_is_not_json_is_refused_with_the_place(gateway: Gateway) -> None:
    answer = await post(gateway, b'{"model":\n "a" "b"}')
    assert problem(answer) == {
        "status": 400,
        "code": "malformed_body",
        "detail": "The body is not JSON in UTF-8: Expecting ',' delimiter at line 2, column 6.",
    }


async def test_a_packed_body_is_refused_as_what_it_is(gateway: Gateway) -> None:
    """Some clients pack by themselves, and nobody would guess it from a byte that is no UTF-8."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    packed = gzip.compress(json.dumps(gateway.body()).encode())
    answer = await gateway.http.post("/v1/jobs", content=packed, headers=headers)
    assert problem(answer) == {
        "status": 415,
        "code": "unsupported_media_type",
        "detail": "The body is compressed ('gzip'); send it plain, without Content-Encoding.",
    }
    assert answer.headers["Accept-Encoding"] == "identity"
    plain = {"Content-Encoding": "identity"}
    assert (await gateway.http.post("/v1/jobs", json=gateway.body(), headers=plain)).is_success


async def test_no_malformed_body_is_more_than_a_400(gateway: Gateway) -> None:
    good = json.dumps(gateway.body())
    for body in (
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{'model': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": ' + b"9" * 1001 + b"}",
        b'{"a": "\x00"}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\x"}',
        b'{"a": "\\u12"}',
        b"\xef\xbb\xbf" + good.encode(),
        good.encode("utf-16"),
        good.encode("utf-16-le"),
        good.encode("utf-32"),
        good.encode() + b"x",
        good.encode() + good.encode(),
        b"[" * 100_000,
        b"[" * 9_999 + b"]" * 9_999,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b"[" * 101 + b"]" * 101,
    ):
        answer = await post(gateway, body)
        assert problem(answer)["code"] == "malformed_body", body[:40]
        assert (answer.status_code, len(answer.text) < 500) == (400, True), body[:40]


async def test_a_body_of_very_many_values_is_refused_unread(gateway: Gateway) -> None:
    for value in (b"1", b"[]", b'{"a":[]}'):
        answer = await post(gateway, b"[" + b",".join([value] * 20_001) + b"]")
        assert problem(answer) == {
            "status": 400,
            "code": "malformed_body",
            "detail": "The body has more than 20000 commas and brackets, and is not read.",
        }


async def test_faults_that_are_not_told_take_no_memory(gateway: Gateway) -> None:
    """The deeper they stand, the longer is what points at each: together, gigabytes."""
    deep: Any = ["\0"] * 5000
    for _ in range(90):
        deep = {"k" * 200: deep}
    body = json.dumps(gateway.body() | {"input": deep}).encode()
    tracemalloc.start()
    try:
        answer = await post(gateway, body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 100)
    assert most < 50 * 2**20


async def test_the_last_of_two_equal_names_counts(gateway: Gateway) -> None:
    body = json.dumps(gateway.body())
    answer = await post(gateway, f'{{"model": "nobody/knows", {body[1:]}'.encode())
    assert answer.status_code == 202


async def test_only_json_is_taken(gateway: Gateway) -> None:
    body = json.dumps(gateway.body()).encode()
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {"Content-Type": media_type}
        answer = await gateway.http.post("/v1/jobs", content=body, headers=headers)
        assert problem(answer) == {
            "status": 415,
            "code": "unsupported_media_type",
            "detail": f"The body is {media_type!r}; send JSON with Content-Type: application/json.",
        }
    for media_type in ("application/json", "Application/JSON ; charset=utf-8"):
        headers = {"Content-Type": media_type}
        answer = await gateway.http.post("/v1/jobs", content=body, headers=headers)
        assert answer.status_code == 202
    bare = await gateway.http.post("/v1/jobs", content=body)
    assert bare.status_code == 202


async def test_a_body_beyond_the_limit_is_refused_however_it_comes(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    limits = {"max_body_bytes": 4096}
    async with running(database_url, sandbox=sandbox, clock=clock, **limits) as gateway:
        body = json.dumps(gateway.body()).encode()
        fits = body + b" " * (4096 - len(body))
        assert (await post(gateway, fits)).status_code == 202
        assert (await post(gateway, in_chunks(fits[:9], fits[9:]))).status_code == 202
        # Of the third, nothing must be read beyond the chunk that breaks the limit.
        for content in (fits + b" ", in_chunks(fits, b" "), endless(at_most=10)):
            answer = await post(gateway, content)
            assert problem(answer) == {
                "status": 413,
                "code": "payload_too_large",
                "detail": "The body is longer than 4096 bytes (GATEWAY_MAX_BODY_BYTES);"
                " name large media by a URL instead of sending it.",
            }
        # One that says how long it is, and waits for the word to go on, need not come at all.
        headers = {"Content-Type": "application/json", "Content-Length": "4097"}
        unread = await gateway.http.post("/v1/jobs", content=endless(at_most=0), headers=headers)
        assert problem(unread)["code"] == "payload_too_large"


async def test_how_long_a_body_takes_to_come_is_no_time_of_the_gateways(gateway: Gateway) -> None:
    body = json.dumps(gateway.body()).encode()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:9]
        gateway.clock.advance(timedelta(seconds=4))
        yield body[9:]

    accepted = await post(gateway, slowly())
    assert (accepted.status_code, accepted.headers["Server-Timing"]) == (202, "gateway;dur=0.0")


async def endless(*, at_most: int) -> AsyncIterator[bytes]:
    for _ in range(at_most):
        yield b" " * 1000
    raise AssertionError("it reads on and on")


async def test_null_in_an_optional_field_is_as_if_it_were_left_out(gateway: Gateway) -> None:
    """Clients that are generated from the document write it for whatever is not set."""
    everything = {"user": "alice", "scopes": ["jobs:read", "jobs:write", "webhooks", "tokens"]}
    made = (await gateway.admin.post("/v1/admin/keys", json=everything)).json()
    caller, admin = gateway.client_with(made["key"]), gateway.admin
    document = (await caller.get("/openapi.json")).json()
    job = gateway.body()
    for client, path, bodies in (
        (caller, "/v1/jobs", (job, job)),
        (caller, "/v1/jobs/validate", (job, job)),
        (caller, "/v1/client-tokens", ({"scopes": ["jobs:read"]}, {"scopes": ["jobs:read"]})),
        (caller, "/v1/webhook-endpoints", ({"url": "https://example.com/"},) * 2),
        (caller, "/v1/webhook-secret/rotate", ({}, {})),
        (admin, "/v1/admin/plans", ({"name": "a"}, {"name": "b"})),
        (admin, "/v1/admin/users", ({"id": "a"}, {"id": "b"})),
        (admin, "/v1/admin/keys", ({"user": "a"}, {"user": "a"})),
    ):
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        schema = content["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        nulls = dict.fromkeys(schema["properties"])
        bare = await client.post(path, json=bodies[0])
        full = await client.post(path, json=nulls | bodies[1])
        assert bare.is_success, (path, bare.text)
        assert full.status_code == bare.status_code, (path, full.text)
        new = {"id", "name", "secret", "key", "token", "urls", "pending_position", "eta_seconds"}
        differs = {name for name, value in full.json().items() if bare.json()[name] != value}
        assert differs <= new, path
    limits = {"jobs_per_day": {"limit": 3, "mode": None}}
    plan = await admin.post("/v1/admin/plans", json={"name": "c", "limits": limits})
    assert plan.json()["limits"] == {"jobs_per_day": {"limit": 3, "mode": "enforce"}}
    price = {"model": job["model"], "base_price_usd": "1", "price_unit": "output", "when": None}
    prices = await admin.put("/v1/admin/prices", json={"prices": [price]})
    assert prices.json()["prices"] == [price | {"when": {}}]


async def test_null_is_no_value_of_a_field_that_must_be_there_or_is_changed(
    gateway: Gateway,
) -> None:
    for name in ("model", "input", "no_such_field"):
        answer = await gateway.http.post("/v1/jobs", json=gateway.body() | {name: None})
        assert [fault["pointer"] for fault in problem(answer)["errors"]] == [f"/{name}"]
    url = {"url": "https://example.com/"}
    endpoint = (await gateway.http.post("/v1/webhook-endpoints", json=url)).json()
    for name in ("url", "events", "disabled"):
        path = f"/v1/webhook-endpoints/{endpoint['id']}"
        answer = await gateway.http.patch(path, json={name: None})
        assert [fault["pointer"] for fault in problem(answer)["errors"]] == [f"/{name}"]
    named = {"id": "a", "name": "A"}
    await gateway.admin.post("/v1/admin/users", json=named)
    changed = await gateway.admin.patch("/v1/admin/users/a", json={"name": None})
    assert changed.json()["name"] is None
