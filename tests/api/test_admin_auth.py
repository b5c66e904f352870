"""Who is let in to the admin API, and who is told that there is none."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.core.clock import ManualClock
from app.settings import explicit_settings
from tests.support.gateway import ADMIN_TOKEN, Gateway, Sandbox, running

pytestmark = pytest.mark.either_database

PATHS = [
    ("GET", "/v1/admin/plans"),
    ("POST", "/v1/admin/plans"),
    ("DELETE", "/v1/admin/plans"),
    ("GET", "/v1/admin/users/alice"),
    ("GET", "/v1/admin/keys"),
    ("GET", "/v1/admin/prices"),
    ("GET", "/v1/admin/audit"),
    ("GET", "/v1/admin/shadow-findings"),
    ("GET", "/v1/admin/nothing"),
]


async def test_without_an_admin_token_there_is_no_admin_api(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    same = {"request_id": "", "instance": "", "detail": ""}
    async with running(database_url, sandbox=sandbox, clock=clock, admin_token=()) as gateway:
        for method, path in PATHS:
            answer = await gateway.admin.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
            nowhere = await gateway.admin.request(method, "/v1/nothing")
            assert answer.json() | same == nowhere.json() | same


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", f"Basic {ADMIN_TOKEN}", f"Bearer {ADMIN_TOKEN}x", ADMIN_TOKEN, "Bearer \xff"],
)
async def test_a_wrong_admin_token_is_turned_away(
    gateway: Gateway, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    client = gateway.client_with("x")
    del client.headers["Authorization"]
    for method, path in PATHS:
        answer = await client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "wrong_admin_token"), path
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_an_api_key_is_no_admin_token_and_an_admin_token_no_api_key(
    gateway: Gateway,
) -> None:
    assert (await gateway.http.get("/v1/admin/plans")).status_code == 401
    answer = await gateway.admin.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(gateway: Gateway) -> None:
    wrong = gateway.client_with("wrong" * 8)
    codes = [(await wrong.get("/v1/admin/plans")).status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2
    refused = await wrong.get("/v1/admin/plans")
    assert refused.json()["code"] == "too_many_attempts"
    assert refused.headers["Retry-After"] == "1"
    assert (await gateway.admin.get("/v1/admin/plans")).status_code == 200
    gateway.wait(2)
    codes = [(await wrong.get("/v1/admin/plans")).status_code for _ in range(3)]
    assert codes == [401, 401, 429]


async def test_an_operator_learns_which_paths_and_methods_there_are(gateway: Gateway) -> None:
    wrong = await gateway.admin.put("/v1/admin/plans", json={})
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET, POST")
    nowhere = await gateway.admin.get("/v1/admin/nothing")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")


async def test_each_token_signs_with_its_own_name(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    ann, bea = "a" * 32, "b" * 40
    tokens = f"ann:{ann}, bea:{bea}"
    async with running(database_url, sandbox=sandbox, clock=clock, admin_token=tokens) as gateway:
        for name, token in (("one", ann), ("two", bea)):
            await gateway.client_with(token).post("/v1/admin/plans", json={"name": name})
        entries = (await gateway.client_with(bea).get("/v1/admin/audit")).json()["data"]
        assert [(each["actor"], each["target"]) for each in entries[:2]] == [
            ("bea", "plan:two"),
            ("ann", "plan:one"),
        ]


async def test_a_single_token_is_called_admin(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with running(
        database_url, sandbox=sandbox, clock=clock, admin_token=ADMIN_TOKEN
    ) as gateway:
        await gateway.admin.post("/v1/admin/plans", json={"name": "one"})
        (entry,) = await gateway.audited()
        assert entry["actor"] == "admin"


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ("s" * 31, "the token must be at least 32 characters long"),
        (f"ann:{'s' * 31}", "the token of ann must be at least 32 characters long"),
        (f"ann:{'s' * 32},{'t' * 32}", "entry 2 must be `name:token`"),
        (f"{'s' * 32},{'t' * 32}", "entry 1 must be `name:token`"),
        (f"a b:{'s' * 32}", "entry 1 must be `name:token`"),
        (f"ann:{'s' * 32},ann:{'t' * 32}", "each name may be given only once"),
        (f"ann:{'s' * 32},bea:{'s' * 32}", "two names have the same token"),
        ("ü" * 40, "visible ASCII"),
        (",", "there is no token in it"),
    ],
)
def test_a_wrong_setting_is_named_without_its_tokens(tokens: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        explicit_settings(admin_token=tokens)
    assert sentence in str(caught.value)
    for part in ("s" * 31, "t" * 31, "ü" * 31):
        assert part not in str(caught.value)


def test_settings_hold_no_token() -> None:
    settings: Any = explicit_settings(admin_token=ADMIN_TOKEN)
    assert ADMIN_TOKEN not in repr(settings)
