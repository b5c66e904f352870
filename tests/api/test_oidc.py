"""Sign-in with tokens of an identity provider: a real one on a socket, honest or not."""

import asyncio
import base64
import hashlib
import json
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.testing import capture_logs

from app.auth.oidc.errors import IdentityProviderUnavailableError
from app.auth.oidc.keys import IssuerKeys
from app.auth.oidc.naming import key_id_of, user_id_of
from app.core.clock import ManualClock, SystemClock
from app.core.ids import is_id
from app.net.clients import trusted
from tests.support.answers import problem
from tests.support.gateway import SEEDANCE, Gateway, Sandbox, running
from tests.support.issuer import AUDIENCE, Issuer, private_key, public_jwk, running_issuer
from tests.support.network import certified
from tests.support.statements import recorded
from tests.support.turns import turns
from tests.support.wire_server import Line, answer, wire_server

pytestmark = pytest.mark.either_database


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as one:
        yield one


@pytest.fixture
async def gateway(
    database_url: str, sandbox: Sandbox, clock: ManualClock, issuer: Issuer
) -> AsyncIterator[Gateway]:
    settings = {
        "oidc_issuer": issuer.url,
        "oidc_audience": AUDIENCE,
        "oidc_plan_claim": "tier",
    }
    async with running(database_url, sandbox=sandbox, clock=clock, **settings) as one:
        yield one


async def me(gateway: Gateway, token: str, **headers: str) -> httpx.Response:
    return await gateway.client_with(token).get("/v1/me", headers=headers)


async def refusal(gateway: Gateway, token: str) -> str:
    answer = await me(gateway, token)
    body = problem(answer)
    assert (answer.status_code, body["code"]) == (401, "unauthenticated"), body
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    detail: str = body["detail"]
    return detail


async def test_a_user_is_made_on_first_sight_and_works_like_any_other(
    gateway: Gateway, issuer: Issuer
) -> None:
    token = issuer.sign(gateway.clock.now(), claims={"sub": "auth0|5f", "aud": ["x", AUDIENCE]})
    answers = await asyncio.gather(*(me(gateway, token) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    told = answers[0].json()
    assert told == {
        "user": "oidc/auth0:7c5f",
        "key": key_id_of("oidc/auth0:7c5f"),
        "plan": None,
        "timezone": "UTC",
        "scopes": ["files", "jobs:read", "jobs:write"],
        "models": None,
        "limits": [],
    }
    app = gateway.client_with(token)
    job = (await app.post("/v1/jobs", json=gateway.body())).json()
    assert (await app.get(f"/v1/jobs/{job['id']}")).status_code == 200
    assert (await gateway.http.get(f"/v1/jobs/{job['id']}")).status_code == 404
    assert problem(await me(gateway, token, **{"X-Gateway-User": "u1"}))["scope"] == "act_as"
    minting = await app.post("/v1/client-tokens", json={"scopes": ["jobs:read"]})
    assert problem(minting)["scope"] == "tokens"
    keys = (await gateway.admin.get("/v1/admin/keys?user=oidc/auth0:7c5f")).json()["data"]
    assert [(key["id"], key["name"]) for key in keys] == [(told["key"], "oidc")]
    invariants = (await gateway.admin.get("/v1/admin/invariants")).json()
    assert invariants == {"ok": True, "violations": []}

    user = "/v1/admin/users/oidc/auth0:7c5f"
    await gateway.admin.patch(user, json={"disabled": True})
    assert problem(await me(gateway, token))["code"] == "user_disabled"
    await gateway.admin.patch(user, json={"disabled": False})
    await gateway.admin.delete(f"/v1/admin/keys/{told['key']}")
    assert "ended the sign-ins" in await refusal(gateway, token)
    assert (await gateway.http.get("/v1/me")).status_code == 200  # keys work beside it


async def test_the_plan_follows_its_claim(gateway: Gateway, issuer: Issuer) -> None:
    for plan in ({"name": "free", "default": True}, {"name": "gold", "timezone": "Asia/Tokyo"}):
        assert (await gateway.admin.post("/v1/admin/plans", json=plan)).is_success
    for tier, plan, zone in (
        ("gold", "gold", "Asia/Tokyo"),
        (..., "free", "UTC"),
        ("free", "free", "UTC"),
        ("gold", "gold", "Asia/Tokyo"),
    ):
        token = issuer.sign(gateway.clock.now(), claims={"tier": tier})
        told = (await me(gateway, token)).json()
        assert (told["plan"], told["timezone"]) == (plan, zone)
    for tier in ("silver", "", 7, ["gold"], "a\0b", "x" * 1000):
        answer = await me(gateway, issuer.sign(gateway.clock.now(), claims={"tier": tier}))
        assert (answer.status_code, problem(answer)["code"]) == (403, "unknown_plan")
    with recorded(gateway) as seen:  # who is known, and on that plan, is only looked up
        assert (await me(gateway, token)).status_code == 200
    assert not [text for each in seen for text in each if "INSERT" in text]
    audit = await gateway.audited()
    changes = [(each["actor"], each["target"]) for each in audit if "changed" in each["action"]]
    assert changes == [("system", "user:oidc/u1")] * 3


async def test_a_user_is_who_the_configured_claim_says(
    database_url: str, sandbox: Sandbox, clock: ManualClock, issuer: Issuer
) -> None:
    settings = {"oidc_issuer": issuer.url, "oidc_audience": AUDIENCE, "oidc_user_claim": "email"}
    async with running(database_url, sandbox=sandbox, clock=clock, **settings) as gateway:
        token = issuer.sign(clock.now(), claims={"email": "u2@example.com"})
        assert (await me(gateway, token)).json()["user"] == "oidc/u2@example.com"
        # No claim names the plan, so an operator does.
        assert (await gateway.admin.post("/v1/admin/plans", json={"name": "gold"})).is_success
        user = "/v1/admin/users/oidc/u2@example.com"
        assert (await gateway.admin.patch(user, json={"plan": "gold"})).is_success
        assert (await me(gateway, token)).json()["plan"] == "gold"
        assert "whose it is" in await refusal(gateway, issuer.sign(clock.now()))


async def test_a_sign_in_may_no_more_whatever_its_key_is_given_and_less_where_it_is_narrowed(
    gateway: Gateway, issuer: Issuer
) -> None:
    plan = {"name": "one", "models": [SEEDANCE], "default": True}
    assert (await gateway.admin.post("/v1/admin/plans", json=plan)).is_success
    token = issuer.sign(gateway.clock.now())
    told = (await me(gateway, token)).json()
    own = ["files", "jobs:read", "jobs:write"]
    assert (told["models"], told["scopes"]) == ([SEEDANCE], own)
    more = {"scopes": [*own, "tokens", "webhooks"]}
    changed = await gateway.admin.patch(f"/v1/admin/keys/{told['key']}", json=more)
    assert changed.status_code == 200, changed.text
    assert (await me(gateway, token)).json()["scopes"] == own

    less = {
        "scopes": ["jobs:read"],
        "models": ["wan-ai/wan-2.7/text-to-video"],
        "limits": {"jobs_per_day": {"limit": 7}},
    }
    assert (await gateway.admin.patch(f"/v1/admin/keys/{told['key']}", json=less)).is_success
    told = (await me(gateway, token)).json()
    limits = [(limit["subject"], limit["limit"]) for limit in told["limits"]]
    assert (told["scopes"], told["models"], limits) == (["jobs:read"], [], [("key", 7)])


async def test_nothing_that_the_issuer_did_not_sign_so_gets_in(
    gateway: Gateway, issuer: Issuer
) -> None:
    now = gateway.clock.now()
    s = int(now.timestamp())
    good = issuer.sign(now)
    assert (await me(gateway, good)).status_code == 200
    head, claims, signature = good.split(".")
    stranger = private_key("stranger")
    pem = (
        private_key("k1").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )

    def encoded(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    def hs(secret: bytes) -> str:
        """Sign with HMAC by hand: the library itself refuses a public key as a secret."""
        jws = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        text = f"{encoded({'alg': 'HS256', 'kid': 'k1', 'typ': 'JWT'})}.{claims}"
        mark = base64.urlsafe_b64encode(jws.sign(text.encode(), secret)).rstrip(b"=").decode()
        return f"{text}.{mark}"

    none = f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}"
    rows = {
        "signed in a way": [
            f"{none}.",
            f"{none}.{signature}",
            *(f"{encoded({'alg': each})}.{claims}.{signature}" for each in ("None", [], {}, 7)),
            hs(pem),
            hs(json.dumps(issuer.keys[0]).encode()),
            hs(b""),
            *(
                issuer.sign(now, headers=each)
                for each in ({"typ": "logout+jwt"}, {"typ": 7}, {"zip": "DEF"})
            ),
        ],
        "not signed by a key": [
            issuer.sign(now, key=stranger),
            issuer.sign(now, key=stranger, kid=None),
            issuer.sign(now, key=stranger, headers={"jwk": public_jwk(stranger, kid="k1")}),
            issuer.sign(now, key=stranger, headers={"jku": "http://127.0.0.1:1/keys"}),
            f"{head}.{encoded({'sub': 'u2', 'iss': issuer.url, 'aud': AUDIENCE})}.{signature}",
            f"{head}.{claims}.",
            f"{head}.{claims}.{signature[:-4]}AAAA",
            issuer.sign(now, key=private_key("e", "EC"), algorithm="ES256"),
            *(
                jwt.PyJWS().encode(payload, private_key("k1"), "RS256", {"kid": "k1"})
                for payload in (b"no JSON", b"[]", b"[" * 5000)
            ),
        ],
        "another issuer": [
            issuer.sign(now, claims={"iss": each})
            for each in ("https://evil.test", f"{issuer.url}/", issuer.url.upper(), "", ...)
        ],
        "another audience": [
            issuer.sign(now, claims={"aud": each})
            for each in ("other", ["other"], [], AUDIENCE.upper(), f"{AUDIENCE}-2", None, ...)
        ],
        "has expired": [
            issuer.sign(now, claims={"exp": each})
            for each in (s - 60, 0, -1, -(10**400), ..., None, "never", True, str(s + 9), math.inf)
        ],
        "not valid yet": [
            issuer.sign(now, claims={name: each})
            for name in ("nbf", "iat")
            for each in (s + 61, s + 3600, 10**400, "now", None)
        ],
        "whose it is": [
            issuer.sign(now, claims={"sub": each})
            for each in ("", "x" * 1025, "\ud800", True, ["u1"], None)
        ],
        "longer than": [issuer.sign(now, claims={"pad": "x" * 20_000})],
        "cannot be read": [
            issuer.sign(now, headers={"crit": ["exp"]}),
            "..",
            "a.b.c",
            f"{head}.{claims}.{signature}=!",
        ],
    }
    for reason, tokens in rows.items():
        for token in tokens:
            assert reason in await refusal(gateway, token), (reason, token)

    # Clocks differ by seconds, and that is bounded.
    for skewed in ({"exp": s - 59}, {"nbf": s + 60}, {"iat": s + 60}, {"iat": ...}):
        assert (await me(gateway, issuer.sign(now, claims=skewed))).status_code == 200
    for kind in ("at+jwt", "application/at+jwt", "JWT"):  # RFC 9068, 2.1
        assert (await me(gateway, issuer.sign(now, headers={"typ": kind}))).status_code == 200
    for far in (1e300, 2**62, 10**400):
        assert (await me(gateway, issuer.sign(now, claims={"exp": far}))).status_code == 200
    users = (await gateway.admin.get("/v1/admin/users")).json()["data"]
    assert {user["id"] for user in users} == {"alice", "oidc/u1"}


async def test_keys_are_rotated_and_asked_for_at_a_rate(gateway: Gateway, issuer: Issuer) -> None:
    now = gateway.clock.now()
    old = issuer.sign(now)
    assert (await me(gateway, old)).status_code == 200
    gateway.wait(10)
    for known in (old, issuer.sign(now, kid=None)):
        assert (await me(gateway, known)).status_code == 200
    assert issuer.fetches == 1

    # A flood of made-up kids makes one fetch, and strangers learn nothing by it.
    flood = [issuer.sign(now, kid=f"made-up-{n}", key=private_key("stranger")) for n in range(30)]
    refusals = await asyncio.gather(*(refusal(gateway, token) for token in flood))
    assert {text.partition("signed")[2] for text in refusals} == {" by a key of its issuer."}
    assert issuer.fetches == 2

    fresh = private_key("k2", "EC")
    later = private_key("k4")
    issuer.keys = [
        public_jwk(fresh, kid="k2"),
        public_jwk(private_key("ed", "Ed"), kid="k3"),
        public_jwk(private_key("stranger"), kid="k5"),
        public_jwk(later, kid=None),
    ]
    gateway.wait(10)
    for kid, key, algorithm in (
        ("k2", fresh, "ES256"),
        ("k3", private_key("ed", "Ed"), "EdDSA"),
        (None, later, "RS256"),
    ):
        token = issuer.sign(gateway.clock.now(), kid=kid, key=key, algorithm=algorithm)
        assert (await me(gateway, token)).status_code == 200
    assert issuer.fetches == 3
    assert "not signed by a key" in await refusal(gateway, old)  # its key was taken back


async def test_known_keys_are_kept_while_the_issuer_is_away(
    gateway: Gateway, issuer: Issuer
) -> None:
    now = gateway.clock.now()
    issuer.is_up = False
    answer = await me(gateway, issuer.sign(now))
    assert (answer.status_code, problem(answer)["code"]) == (503, "identity_provider_unavailable")
    assert answer.headers["Retry-After"] == "10"
    issuer.is_up = True
    assert (await me(gateway, issuer.sign(now))).status_code == 503  # not asked again at once
    gateway.wait(10)
    assert (await me(gateway, issuer.sign(now))).status_code == 200

    keys = gateway.app.state.parts.issuer_keys
    good = list(issuer.keys)
    issuer.is_up = False
    assert not await keys.refresh()
    issuer.is_up = True
    small = public_jwk(private_key("small", size=1024), kid="k1")
    for broken in (
        {"raw": b"no json"},
        {"raw": b"[" * 100_000},
        {"raw": json.dumps({"keys": good}).encode() + b" " * 600_000},
        {"raw": b"{}"},
        {"raw": b"[]"},
        {"raw": b'{"keys": {"k1": {}}}'},
        {"keys": []},
        {"keys": [{"kty": "oct", "k": "AAAA", "kid": "k1"}, None, {"kty": "RSA", "n": 7}]},
        {"keys": [good[0] | each for each in ({"use": "enc"}, {"key_ops": ["sign"]})]},
        {"keys": [good[0] | {"key_ops": 7}]},
        {"keys": [good[0] | {"alg": "HS256"}, good[0] | {"kid": 7}]},
        {"discovery": {"issuer": "https://evil.test", "jwks_uri": f"{issuer.url}/keys"}},
        {"discovery": {"issuer": issuer.url, "jwks_uri": "file:///etc/passwd"}},
        {"discovery": {"issuer": issuer.url, "jwks_uri": "http://x:y/"}},
        {"discovery": {"issuer": issuer.url}},
    ):
        issuer.keys, issuer.raw, issuer.discovery = list(good), None, None
        for name, value in broken.items():
            setattr(issuer, name, value)
        assert not await keys.refresh(), broken
        assert (await me(gateway, issuer.sign(now))).status_code == 200
    issuer.keys, issuer.raw, issuer.discovery = [small], None, None
    assert await keys.refresh()
    weak = issuer.sign(now, key=private_key("small", size=1024))
    assert "not signed by a key" in await refusal(gateway, weak)


async def test_an_issuer_that_hangs_keeps_callers_waiting_once(clock: ManualClock) -> None:
    fetches = 0

    async def give_up_late(line: Line) -> None:
        nonlocal fetches
        await line.request()
        fetches += 1
        clock.advance(timedelta(seconds=10))
        await line.send(answer(503))

    async with wire_server(give_up_late) as server, httpx.AsyncClient(timeout=60) as client:
        keys = IssuerKeys(issuer=server.url, client=client, clock=clock)
        callers = (keys.find("k1", algorithm="RS256") for _ in range(5))
        found = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(each) for each in found] == [IdentityProviderUnavailableError] * 5
    assert fetches == 1


async def test_the_log_says_why_an_issuer_gives_no_keys(issuer: Issuer, clock: ManualClock) -> None:
    answers: dict[str, dict[str, Any]] = {
        "the discovery document is another issuer's": {
            "discovery": {"issuer": f"{issuer.url}/", "jwks_uri": f"{issuer.url}/keys"}
        },
        "none of the keys can be used": {"keys": []},
        "JSONDecodeError": {"raw": b"<html>"},
        "RemoteProtocolError": {"is_up": False},
    }
    async with httpx.AsyncClient(timeout=60) as client:
        keys = IssuerKeys(issuer=issuer.url, client=client, clock=clock)
        with capture_logs() as logs:
            for change in answers.values():
                issuer.discovery = None
                for name, value in change.items():
                    setattr(issuer, name, value)
                assert not await keys.refresh()
                issuer.raw = None
    told = [(line["event"], line["reason"]) for line in logs]
    assert told == [("oidc.keys_not_fetched", reason) for reason in answers]


async def test_keys_of_an_issuer_with_https_come_by_nothing_less(clock: ManualClock) -> None:
    ours, trusting = certified("localhost")
    async with (
        running_issuer(ours) as issuer,
        running_issuer() as anybody,
        httpx.AsyncClient(verify=trusting, timeout=60) as client,
    ):
        keys = IssuerKeys(issuer=issuer.url, client=client, clock=clock)
        assert await keys.refresh()
        issuer.discovery = {"issuer": issuer.url, "jwks_uri": f"{anybody.url}/keys"}
        assert not await keys.refresh()
        assert anybody.fetches == 0


async def test_an_issuer_may_end_with_a_slash(issuer: Issuer, clock: ManualClock) -> None:
    issuer.discovery = {"issuer": f"{issuer.url}/", "jwks_uri": f"{issuer.url}/keys"}
    async with httpx.AsyncClient(timeout=60) as client:
        assert await IssuerKeys(issuer=f"{issuer.url}/", client=client, clock=clock).refresh()


async def test_keys_are_refreshed_in_the_background_until_the_end(
    gateway: Gateway, issuer: Issuer
) -> None:
    keys, stop = gateway.app.state.parts.issuer_keys, asyncio.Event()

    async def fetched(times: int) -> None:
        while issuer.fetches < times:
            await SystemClock().sleep(timedelta(milliseconds=1))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(keys.run(stop))
        await fetched(1)
        await keys.refresh()  # waits for the one under way, so the loop is at rest
        gateway.wait(600)
        await fetched(3)
        stop.set()


def test_no_two_claims_are_one_user() -> None:
    digest = hashlib.sha256(b"x" * 129).hexdigest()
    claims = [
        f"{chr(int(digest[:2], 16))}{digest[2:]}",  # all but the sign of what was too long
        *("a", "A", "a:b", "a:3ab", "a|b", "a/b", "a b", " a", "ä", "a\u0308", ":", "::", "%"),
        *("x" * 128, "x" * 129, "x" * 130, "|" * 42, "|" * 43, "\0", "."),
    ]
    ids = [user_id_of(claim) for claim in claims]
    assert len(set(ids)) == len(ids)
    assert user_id_of("108501") == "oidc/108501"
    assert user_id_of("a:b|c") == "oidc/a:3ab:7cc"
    assert all(len(id_) <= len("oidc/") + 128 for id_ in ids)
    assert len({key_id_of(id_) for id_ in ids}) == len(ids)
    assert is_id(key_id_of("oidc/a"), prefix="key")


async def test_a_fault_of_a_refresh_ends_neither_the_loop_nor_the_gateway(
    issuer: Issuer, clock: ManualClock
) -> None:
    client = trusted(timeout=timedelta(seconds=1), connections=1, keepalive=timedelta(seconds=1))
    await client.aclose()  # from where a call is a bug, and raises what no failed fetch does
    keys, stop = IssuerKeys(issuer=issuer.url, client=client, clock=clock), asyncio.Event()
    with capture_logs() as logs:
        refreshing = asyncio.ensure_future(keys.run(stop))
        await turns()
        assert not refreshing.done()
        stop.set()
        await refreshing
    assert [line["event"] for line in logs] == ["oidc.refresh_failed"]


async def test_a_provider_that_never_answers_holds_up_no_shutdown(clock: ManualClock) -> None:
    asked = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    patience = timedelta(minutes=1)
    async with (
        server,
        aclosing(trusted(timeout=patience, connections=1, keepalive=patience)) as client,
        asyncio.timeout(30),
    ):
        keys = IssuerKeys(issuer=f"http://{host}:{port}", client=client, clock=clock)
        stop = asyncio.Event()
        refreshing = asyncio.ensure_future(keys.run(stop))
        await asked.wait()
        stop.set()
        await refreshing
