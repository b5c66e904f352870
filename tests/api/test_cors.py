"""CORS: pages of configured origins may read answers, errors included; nobody else may."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from app.core.clock import ManualClock
from app.net.origins import checked_origin
from tests.support.credentials import client_with_key, client_with_token
from tests.support.gateway import Gateway, Sandbox, running

pytestmark = pytest.mark.either_database

APP, EVIL = "https://app.example", "https://evil.example"
LOCAL = "http://localhost:3000"


@pytest.fixture
async def open_gateway(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[Gateway]:
    async with running(
        database_url, sandbox=sandbox, clock=clock, cors_origins=(APP, LOCAL)
    ) as gateway:
        yield gateway


def cors(answer: httpx.Response) -> dict[str, str]:
    prefix = "access-control-"
    return {
        name.removeprefix(prefix): value
        for name, value in answer.headers.items()
        if name.startswith(prefix)
    }


def names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")}


async def test_a_preflight_of_a_configured_origin_is_answered_for_long(
    open_gateway: Gateway,
) -> None:
    asks = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    for path in ("/v1/jobs", "/v1/jobs/job_x/cancel", "/v1/client-tokens", "/v1/models/a/b"):
        answer = await open_gateway.http.options(path, headers=asks)
        assert answer.status_code == 204
        told = cors(answer)
        assert told["allow-origin"] == APP
        assert {"GET", "POST", "PATCH", "DELETE"} <= names(told["allow-methods"])
        assert {
            *("Authorization", "Content-Type", "Idempotency-Key", "Prefer", "Last-Event-ID"),
            *("If-None-Match", "If-Range", "Range", "Traceparent", "Tracestate"),
            *("X-Gateway-User", "X-Request-Id"),
        } <= names(told["allow-headers"])
        assert int(told["max-age"]) >= 600
        assert "allow-credentials" not in told
        assert answer.headers["Vary"] == "Origin"
        assert answer.headers["X-Request-Id"]


async def test_answers_and_errors_can_be_read_by_configured_origins_alone(
    open_gateway: Gateway,
) -> None:
    nobody = open_gateway.client_with("x")
    maker = await client_with_key(open_gateway)
    spent = await client_with_token(open_gateway, maker, max_jobs=1, origin=APP)
    body = open_gateway.body()
    answers = [
        (200, await open_gateway.http.get("/v1/jobs", headers={"Origin": LOCAL})),
        (401, await nobody.get("/v1/jobs", headers={"Origin": APP})),
        (404, await open_gateway.http.get("/v1/nothing", headers={"Origin": APP})),
        (422, await open_gateway.http.post("/v1/jobs", json={}, headers={"Origin": APP})),
        (202, await spent.post("/v1/jobs", json=body, headers={"Origin": APP})),
        (429, await spent.post("/v1/jobs", json=body, headers={"Origin": APP})),
        (403, await spent.post("/v1/jobs", json=body, headers={"Origin": LOCAL})),
    ]
    for status, answer in answers:
        assert answer.status_code == status
        told = cors(answer)
        assert told.pop("allow-origin") == answer.request.headers["Origin"]
        assert {
            *("RateLimit", "RateLimit-Policy", "Retry-After", "Idempotency-Replayed"),
            *("X-Request-Id", "Location", "ETag", "Preference-Applied", "Server-Timing"),
            *("Accept-Ranges", "Content-Disposition", "Content-Range"),
        } <= names(told.pop("expose-headers"))
        assert told == {}
        assert answer.headers["Vary"] == "Origin"
    own_page = {"Sec-Fetch-Site": "same-origin"}
    assert (await spent.get("/v1/jobs", headers=own_page)).status_code == 403


async def test_a_bug_is_readable_too(open_gateway: Gateway) -> None:
    del open_gateway.app.state.services  # so that every route fails
    transport = httpx.ASGITransport(app=open_gateway.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://gateway.test") as http:
        answer = await http.get("/v1/jobs", headers={"Origin": APP})
    assert answer.status_code == 500
    assert cors(answer)["allow-origin"] == APP


async def test_other_origins_and_the_admin_api_are_told_nothing(open_gateway: Gateway) -> None:
    for origin in (EVIL, "null", f"{APP}.evil.example", APP.upper(), f"{APP}:443", "*"):
        answer = await open_gateway.http.get("/v1/jobs", headers={"Origin": origin})
        assert (answer.status_code, cors(answer)) == (200, {})
        assert answer.headers["Vary"] == "Origin"
    plain = await open_gateway.http.get("/v1/jobs")
    assert (cors(plain), plain.headers["Vary"]) == ({}, "Origin")
    asks = {"Origin": EVIL, "Access-Control-Request-Method": "POST"}
    assert cors(await open_gateway.http.options("/v1/jobs", headers=asks)) == {}
    for path in ("/v1/admin/users", "/v1/admin", "/healthz"):
        asks = {"Origin": APP, "Access-Control-Request-Method": "POST"}
        assert cors(await open_gateway.admin.options(path, headers=asks)) == {}
        assert cors(await open_gateway.admin.get(path, headers={"Origin": APP})) == {}


async def test_without_the_setting_there_is_no_such_header(gateway: Gateway) -> None:
    answer = await gateway.http.get("/v1/jobs", headers={"Origin": APP})
    assert (cors(answer), "Vary" in answer.headers) == ({}, False)


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("*", "name each origin"),
        ("null", "name each origin"),
        ("app.example", "like https://app.example"),
        ("https://app.example/", "'https://app.example'"),
        ("https://app.example/path", "'https://app.example'"),
        ("https://App.example", "'https://app.example'"),
        ("https://app.example:443", "'https://app.example'"),
        ("https://bücher.example", "'https://xn--bcher-kva.example'"),
        ("https://u:p@app.example", "like https://app.example"),
        ("ftp://app.example", "like https://app.example"),
        ("https://", "like https://app.example"),
        ("https://app.example:x", "Port"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(text: str, way_out: str) -> None:
    with pytest.raises(ValueError, match=re.escape(way_out)):
        checked_origin(text)


def test_origins_of_any_port_and_address_are_taken() -> None:
    for origin in (APP, LOCAL, "http://127.0.0.1:8000", "http://[::1]:8000"):
        assert checked_origin(origin) == origin
