"""Around every call: paths, methods, ids, and the two failures that are ours."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import structlog
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from structlog.testing import capture_logs

from app.api.deps import Services
from app.auth.service import AuthService, Sender
from app.core.clock import ManualClock
from app.main import create_app
from app.settings import explicit_settings
from tests.support.answers import problem
from tests.support.asgi import send_raw
from tests.support.databases import Databases
from tests.support.gateway import PUBLIC_URL, SEEDANCE, TOKEN, Gateway
from tests.support.turns import turns

pytestmark = pytest.mark.either_database

_DOCUMENT = Path("openapi/openapi.json").read_bytes()


async def test_what_is_not_there_is_not_found_and_never_redirected(gateway: Gateway) -> None:
    for path in (
        "/nope",
        "/v1",
        "/v1/",
        "/v1/jobs/",
        "/v1//jobs",
        "/V1/jobs",
        "/v1/jobs/a/b/c",
        "/v1/jobs/a/cancel/",
        "/v1/jobs/..%2f..%2fhealthz",
        "/v1/./jobs/%2e%2e/x/y",
        "/healthz/",
        "/docs",
        "/redoc",
        "/.env",
        "/%00",
        "/🎬",
        "/" + "x" * 60_000,
    ):
        answer = await gateway.http.get(path)
        body = problem(answer)
        assert (body["status"], body["code"]) == (404, "not_found"), path[:40]
        assert len(answer.text) < 1000
    doubled = await send_raw(gateway.app, "GET", "//v1/jobs")
    assert doubled.status_code == 404


async def test_a_method_that_a_path_does_not_take_is_told_all_that_it_does(
    gateway: Gateway,
) -> None:
    answer = await gateway.http.put("/v1/jobs", content=b"{")
    assert problem(answer) == {
        "status": 405,
        "code": "method_not_allowed",
        "detail": "/v1/jobs takes GET, POST, not PUT.",
    }
    allowed = {
        "/v1/jobs": "GET, POST",
        "/v1/jobs/validate": "DELETE, GET, POST",
        "/v1/jobs/x": "DELETE, GET",
        "/v1/jobs/x/cancel": "POST",
        "/v1/jobs/x/outputs/0": "GET, HEAD",
        "/healthz": "GET, HEAD",
        "/readyz": "GET, HEAD",
        "/openapi.json": "GET, HEAD",
        "/": "GET, HEAD",
        "/assets/console.js": "GET, HEAD",
    }
    for path, methods in allowed.items():
        for method in ("PUT", "OPTIONS", "TRACE", "get", "BREW", "M" * 5000):
            refused = await send_raw(gateway.app, method, path)
            assert refused.status_code == 405, (method[:10], path)
            assert refused.headers["Allow"] == methods
            assert len(refused.content) < 1000


async def test_every_answer_names_its_request_and_its_time(gateway: Gateway) -> None:
    job = await gateway.submit()
    for method, path in (
        ("GET", f"/v1/jobs/{job['id']}"),
        ("POST", "/v1/jobs"),
        ("GET", "/nope"),
        ("PATCH", "/v1/jobs"),
        ("GET", "/healthz"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/models/x/y"),
    ):
        answer = await gateway.http.request(method, path)
        assert answer.headers["X-Request-Id"].startswith("req_")
        assert answer.headers["Server-Timing"] == "gateway;dur=0.0"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        policy = answer.headers["Content-Security-Policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


async def test_the_document_is_the_one_that_is_kept(gateway: Gateway) -> None:
    answer = await gateway.http.get("/openapi.json", headers={"Authorization": ""})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.content == _DOCUMENT


async def test_a_request_id_is_kept_if_it_can_stand_in_a_log(gateway: Gateway) -> None:
    for given in ("a", "4711-abc_DEF.7", "x" * 128):
        answer = await gateway.http.get("/nope", headers={"X-Request-Id": given})
        assert answer.headers["X-Request-Id"] == given
        assert answer.json()["request_id"] == given
    for given in ("", "a b", "x" * 129, "a\r\nSet-Cookie: a=b", "ключ", '"', "a/b", "x" * 100_000):
        lines = [(b"x-request-id", given.encode())]
        answer = await send_raw(gateway.app, "GET", "/nope", headers=lines)
        assert answer.headers["X-Request-Id"].startswith("req_")
        assert "Set-Cookie" not in answer.headers


async def test_no_request_however_odd_is_our_fault(gateway: Gateway) -> None:
    key = gateway.http.headers["Authorization"].encode()
    odd_headers = [
        (b"host", b"[\xff"),
        (b"host", b""),
        (b"host", b"a/b?c#d"),
        (b"content-length", b"-1"),
        (b"content-length", b"9" * 400),
        (b"content-length", b"\xb2"),
        (b"content-type", b"\xff/\x00;charset=\xff"),
        (b"content-type", b"application/json; charset=utf-16"),
        (b"accept", b"\x00"),
        (b"expect", b"100-continue"),
        (b"transfer-encoding", b"gzip"),
        (b"content-encoding", b"gzip"),
        (b"if-none-match", b"\xff" * 10_000),
        (b"cookie", b"a=b" * 10_000),
        (b"range", b"bytes=9-1,\xff"),
        (b"x-forwarded-host", b"evil.example"),
        (b"x-http-method-override", b"DELETE"),
    ]
    for path in ("/v1/jobs", "/v1/jobs/x", "/v1/jobs/x/outputs/0", "/v1/models/x", "/\udcff", "/"):
        for method in ("GET", "POST", "HEAD", "CONNECT", ""):
            for header in odd_headers:
                headers = [(b"authorization", key), header]
                answer = await send_raw(gateway.app, method, path, headers=headers, body=b"{}")
                assert 200 <= answer.status_code < 500, (method, path, header)
                assert b"evil.example" not in answer.content
        for query in (b"\xff", b"%ff=%ff", b"limit=%00", b"&" * 1000, b"=", b"limit=1;limit=2"):
            headers = [(b"authorization", key)]
            answer = await send_raw(gateway.app, "GET", path, query=query, headers=headers)
            assert 200 <= answer.status_code < 500, (path, query)


async def test_an_address_has_a_hundred_parameters_at_most(gateway: Gateway) -> None:
    many = "&".join(["a"] * 100)
    repeated = await gateway.http.get(f"/v1/jobs?{many}")
    assert problem(repeated)["parameter"] == "a"
    told = "The address has more than 100 parameters; no call knows so many."
    for path in ("/v1/jobs", "/v1/admin/jobs", "/nope"):
        refused = await gateway.http.get(f"{path}?{many}&a", headers={"Authorization": "none"})
        assert problem(refused) == {
            "status": 422,
            "code": "invalid_parameter",
            "detail": told,
            "parameter": "a",
        }
    as_runcomfy_says_it = await gateway.http.get(f"/v1/models?{many}&a")
    assert as_runcomfy_says_it.status_code == 422
    assert as_runcomfy_says_it.json()["error_code"] == 422001


async def test_a_signature_that_is_refused_for_its_form_is_not_quoted(gateway: Gateway) -> None:
    link = f"/v1/jobs/job_x/outputs/0?expires=1&signature={'s3cret' * 11}"
    refused = problem(await gateway.http.get(link))
    assert (refused["code"], refused["parameter"]) == ("invalid_parameter", "signature")
    assert "s3cret" not in str(refused)


async def test_links_are_made_from_our_own_address_alone(gateway: Gateway) -> None:
    claims = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "ftp",
    }
    answer = await gateway.http.post("/v1/jobs", json=gateway.body(), headers=claims)
    assert answer.headers["Location"].startswith("/v1/jobs/job_")
    assert answer.json()["urls"]["self"].startswith(f"{PUBLIC_URL}/v1/jobs/job_")
    assert "evil" not in answer.text


async def test_a_database_that_is_away_is_said_to_be_away(
    databases: Databases, gateway: Gateway, clock: ManualClock, tmp_path: Path
) -> None:
    with databases.fresh() as url:
        pass  # and it is gone
    app = create_app(
        explicit_settings(
            api_token=TOKEN,
            upstream_url=gateway.sandbox.url,
            database_url=url,
            secret_key="0123456789abcdef" * 4,
            storage_url=f"file://{tmp_path}/files",  # beside the database it would bring it back
            inspect_media="off",
        ),
        public_url=PUBLIC_URL,
        clock=clock,
        background=False,
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url=PUBLIC_URL,
            headers=gateway.http.headers,
        ) as http,
    ):
        for answer in (
            await http.get("/readyz"),
            await http.get("/v1/jobs"),
            await http.post("/v1/jobs", json=gateway.body(), headers={"Idempotency-Key": "k"}),
        ):
            assert problem(answer) == {
                "status": 503,
                "code": "database_unavailable",
                "detail": "The gateway's database does not answer; nothing was accepted."
                " Try again shortly.",
            }
            assert answer.headers["Retry-After"] == "2"
        assert (await http.get("/healthz")).status_code == 200
        models = await http.get("/v1/models")
        assert (models.status_code, models.json()["error_code"]) == (503, 503001)
        assert urlsplit(url).path.rpartition("/")[2] not in answer.text


class Forgetful(AuthService):
    """The real thing, but for the one call that stumbles."""

    async def authenticate(self, authorization: str | None, **came: Any) -> Sender:
        sender = await super().authenticate(authorization, **came)
        raise LookupError(f"a secret of {sender.principal.user_id}")


async def test_a_bug_is_ours_and_tells_nothing(gateway: Gateway) -> None:
    stumble(gateway.app)
    answer = await gateway.http.get("/v1/jobs", headers={"X-Request-Id": "r1"})
    assert problem(answer) == {
        "status": 500,
        "code": "internal_error",
        "detail": "This is a bug of the gateway, not of your request; it was logged under"
        " `request_id`.",
    }
    assert answer.headers["X-Request-Id"] == "r1"
    assert answer.headers["Server-Timing"] == "gateway;dur=0.0"
    with capture_logs() as logs:
        models = await gateway.http.get("/v1/models/a-secret/of-a-client")
    assert (models.status_code, models.json()["error_code"]) == (500, 500001)
    assert "secret" not in answer.text + models.text
    # What a log tells of an exception is for another test.
    [line] = [line for line in logs if line.pop("exc_info")]
    assert line == {
        "event": "request.failed",
        "log_level": "error",
        "method": "GET",
        "route": "/v1/models/{model_id:path}",
    }


async def test_a_bug_midway_ends_the_answer_and_is_logged_once(gateway: Gateway) -> None:
    async def stumbling() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError

    gateway.app.add_route("/half", lambda _request: StreamingResponse(stumbling()))
    with capture_logs() as logs:
        answer = await send_raw(gateway.app, "GET", "/half")
    assert (answer.status_code, answer.content) == (200, b"half")
    assert [each["event"] for each in logs] == ["request.failed"]


def stumble(app: FastAPI) -> None:
    services: Services = app.state.services
    services.auth.__class__ = Forgetful


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_nobodys_fault(
    gateway: Gateway,
) -> None:
    part = {"type": "http.request", "body": b'{"model"', "more_body": True}
    coming = iter([part, {"type": "http.disconnect"}])
    answered: list[Any] = []

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/jobs",
        "query_string": b"",
        "headers": [
            (b"authorization", gateway.http.headers["Authorization"].encode()),
            (b"content-type", b"application/json"),
        ],
    }
    with capture_logs() as logs:
        await gateway.app(scope, receive, send)
    assert [(line["event"], line["route"]) for line in logs] == [("request.abandoned", "/v1/jobs")]
    assert answered == []


class Pensive(AuthService):
    """The real thing, but for an answer that never comes."""

    async def authenticate(self, authorization: str | None, **came: Any) -> Sender:
        await asyncio.Event().wait()
        return await super().authenticate(authorization, **came)


@pytest.mark.parametrize(
    ("path", "code"), [("/v1/jobs", "not_ready"), (f"/v1/models/{SEEDANCE}", 503001)]
)
async def test_a_request_that_a_stop_cuts_off_is_told_to_come_again(
    gateway: Gateway, path: str, code: str | int
) -> None:
    services: Services = gateway.app.state.services
    services.auth.__class__ = Pensive
    sending = asyncio.ensure_future(gateway.http.post(path, json=gateway.body()))
    await turns()
    services.closing.set()
    sending.cancel()  # as the server does, some seconds later
    answer = await sending
    told = answer.json()
    assert (answer.status_code, told.get("code", told.get("error_code"))) == (503, code)
    assert answer.headers["Retry-After"] == "2"
    assert answer.headers["X-Request-Id"]


async def test_a_request_that_is_cancelled_otherwise_is_cancelled(gateway: Gateway) -> None:
    services: Services = gateway.app.state.services
    services.auth.__class__ = Pensive
    sending = asyncio.ensure_future(gateway.http.get("/v1/jobs"))
    await turns()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_the_log_leads_from_a_request_to_its_job(gateway: Gateway) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        body, headers = gateway.body(), {"Idempotency-Key": "order-4711"}
        first = await gateway.http.post(
            "/v1/jobs", json=body, headers=headers | {"X-Request-Id": "of-alice"}
        )
        await gateway.http.post("/v1/jobs", json=body, headers=headers)
        second = await gateway.http.post(f"/v1/models/{SEEDANCE}", json=body["input"])
    accepted = [line for line in logs if line["event"] == "job.accepted"]
    assert [(line["request_id"], line["job_id"]) for line in accepted] == [
        ("of-alice", first.json()["id"]),
        (second.headers["X-Request-Id"], second.json()["request_id"]),
    ]


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/assets/shared/icon.svg"])
async def test_our_own_files_are_sent_whole(gateway: Gateway, path: str) -> None:
    """The framework tells of a part that it cannot read in plain text."""
    whole = await gateway.http.get(path)
    for part in ("bytes=0-1", "bytes=9-1", "bytes=999999999-", "lines=1", "x"):
        answer = await gateway.http.get(path, headers={"Range": part})
        assert (answer.status_code, answer.content) == (200, whole.content), part
