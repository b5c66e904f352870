"""Who gets in: keys that are missing, wrong, spent or too weak."""

import httpx
import pytest

from tests.support.answers import problem
from tests.support.gateway import PUBLIC_URL, Gateway
from tests.support.rows import change

pytestmark = pytest.mark.either_database

NO_KEY = "Send an API key of this gateway as `Authorization: Bearer rcg_...`."
NOT_A_KEY = "That is not an API key of this gateway; send `Authorization: Bearer rcg_...`."
UNKNOWN_KEY = "No such API key; check for a typing mistake."
DEAD_KEY = "This API key was revoked, has expired or is disabled."

CALLS = [
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs/validate"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/job_x"),
    ("POST", "/v1/jobs/job_x/cancel"),
    ("GET", "/v1/jobs/job_x/outputs/0"),
]


@pytest.fixture
def anybody(gateway: Gateway) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=gateway.app)
    return httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL)


def assert_turned_away(answer: httpx.Response, detail: str) -> None:
    assert problem(answer) == {"status": 401, "code": "unauthenticated", "detail": detail}
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_every_call_needs_a_key_before_anything_else(anybody: httpx.AsyncClient) -> None:
    for method, path in CALLS:
        # Whatever else is wrong with the request, strangers learn nothing about it.
        answer = await anybody.request(method, f"{path}?limit=x", content=b"{")
        assert_turned_away(answer, NO_KEY)


async def test_what_is_no_key_is_refused(gateway: Gateway, anybody: httpx.AsyncClient) -> None:
    key = gateway.http.headers["Authorization"].removeprefix("Bearer ")
    for header in (
        key,
        f"Basic {key}",
        f"Bearer{key}",
        "Bearer",
        "Bearer rcg_",
        f"Bearer {key[:-1]}",
        f"Bearer {key}x",
        f"Bearer {key.upper()}",
        f"Bearer {key} {key}",
        f"Bearer {key}, Bearer {key}",
        "Bearer " + "x" * 100_000,
        "Bearer head.claims.signature",
        "Bearer ключ",
        f"Bearer {key}\x7f",
    ):
        lines = [(b"Authorization", header.encode())]
        assert_turned_away(await anybody.get("/v1/jobs", headers=lines), NOT_A_KEY)
    twice = [(b"Authorization", f"Bearer {key}".encode())] * 2
    assert_turned_away(await anybody.get("/v1/jobs", headers=twice), NOT_A_KEY)
    guessed = {"Authorization": f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}"}
    assert_turned_away(await anybody.get("/v1/jobs", headers=guessed), UNKNOWN_KEY)
    foreign = {"Authorization": f"Bearer rcg_{'0' * 26}_{key[-43:]}"}
    assert_turned_away(await anybody.get("/v1/jobs", headers=foreign), UNKNOWN_KEY)
    for spelling in (f"bearer {key}", f"BEARER   {key} "):
        answer = await anybody.get("/v1/jobs", headers={"Authorization": spelling})
        assert answer.status_code == 200


async def test_a_revoked_key_lets_nobody_in(gateway: Gateway, database_url: str) -> None:
    change(database_url, "UPDATE api_keys SET revoked_at = :at", at=gateway.clock.now())
    assert_turned_away(await gateway.http.get("/v1/jobs"), DEAD_KEY)


async def test_a_key_ends_when_it_expires(gateway: Gateway, database_url: str) -> None:
    change(database_url, "UPDATE api_keys SET expires_at = '2026-11-22 10:00:05.000000'")
    gateway.wait(4)
    assert (await gateway.http.get("/v1/jobs")).status_code == 200
    gateway.wait(1)
    assert_turned_away(await gateway.http.get("/v1/jobs"), DEAD_KEY)


async def test_a_disabled_user_is_locked_out_alone(gateway: Gateway, database_url: str) -> None:
    bob = await gateway.client_of("bob")
    change(database_url, "UPDATE users SET disabled = true WHERE id = 'alice'")
    assert_turned_away(await gateway.http.get("/v1/jobs"), DEAD_KEY)
    assert (await bob.get("/v1/jobs")).status_code == 200


async def test_a_key_may_do_only_what_its_scopes_say(gateway: Gateway, database_url: str) -> None:
    reads = [call for call in CALLS if call[0] == "GET"]
    writes = [call for call in CALLS if call[0] == "POST"]
    for scope, missing, refused in (
        ("jobs:read", "jobs:write", writes),
        ("jobs:write", "jobs:read", reads),
    ):
        change(database_url, "UPDATE api_keys SET scopes = :scopes", scopes=f'["{scope}"]')
        for method, path in refused:
            answer = await gateway.http.request(method, path, content=b"{")
            assert problem(answer) == {
                "status": 403,
                "code": "missing_scope",
                "detail": f"This needs the scope '{missing}', which the key does not have;"
                " use another key, or ask an operator for one with that scope.",
                "scope": missing,
            }
        assert (await gateway.http.get("/v1/models")).status_code == 200


async def test_acting_for_others_is_refused_without_the_scope(gateway: Gateway) -> None:
    for method, path in CALLS:
        answer = await gateway.http.request(method, path, headers={"X-Gateway-User": "u1"})
        assert answer.status_code == 403
        assert problem(answer)["scope"] == "act_as"
