"""Who may call what: every credential against every route and every owner.

A new route needs a line in RULES, which says what it asks for; without one this fails. A route
whose path names something that users own says which (`owned`), and a new sort of such things needs
a line in `Belongings`. What each credential is then answered follows from the rule alone.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.api import runcomfy
from app.core.clock import ManualClock
from tests.support.credentials import ALL_SCOPES, client_with_key, minted
from tests.support.gateway import ADMIN_TOKEN, PUBLIC_URL, SEEDANCE, Gateway, Sandbox, running
from tests.support.issuer import AUDIENCE, running_issuer

pytestmark = pytest.mark.either_database

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\x2c\0\0\1\x2c\x08\2\0\0\0"
NOBODY, ANYBODY, OPERATORS = "nobody", "anybody", "operators"


@dataclass(frozen=True)
class Rule:
    """`needs` is a scope, or one of the three words above; NOBODY means no credential at all.

    `owned` names a field of Belongings, and `one_job` says that a token of one job may come too.
    """

    needs: str
    owned: str | None = None
    one_job: bool = False
    linked: bool = False


READ, WRITE = "jobs:read", "jobs:write"
RULES: dict[str, Rule] = {
    "POST /v1/jobs": Rule(WRITE),
    "POST /v1/jobs/validate": Rule(WRITE),
    "GET /v1/jobs": Rule(READ),
    "GET /v1/jobs/{job_id}": Rule(READ, "job", one_job=True),
    "POST /v1/jobs/{job_id}/cancel": Rule(WRITE, "job"),
    "DELETE /v1/jobs/{job_id}": Rule(WRITE, "waiting_job"),
    "GET /v1/jobs/{job_id}/outputs/{n}": Rule(READ, "job", one_job=True, linked=True),
    "HEAD /v1/jobs/{job_id}/outputs/{n}": Rule(READ, "job", one_job=True, linked=True),
    "GET /v1/jobs/{job_id}/events": Rule(READ, "job", one_job=True),
    "GET /v1/events": Rule(READ),
    "POST /v1/files": Rule("files"),
    "GET /v1/files/{file_id}": Rule("files", "file"),
    "GET /v1/files/{file_id}/content": Rule("files", "file"),
    "HEAD /v1/files/{file_id}/content": Rule("files", "file"),
    "GET /v1/models": Rule(ANYBODY),
    "GET /v1/models/categories": Rule(ANYBODY),
    "GET /v1/models/{model_id:path}": Rule(ANYBODY),
    "POST /v1/models/{model_id:path}": Rule(WRITE),
    "GET /v1/requests/{request_id}/status": Rule(READ, "job", one_job=True),
    "GET /v1/requests/{request_id}/result": Rule(READ, "job", one_job=True),
    "POST /v1/requests/{request_id}/cancel": Rule(WRITE, "job"),
    "GET /v1/me": Rule(ANYBODY),
    "GET /v1/usage": Rule(READ),
    "POST /v1/client-tokens": Rule("tokens"),
    "GET /v1/client-tokens": Rule("tokens"),
    "DELETE /v1/client-tokens/{token_id}": Rule("tokens", "token"),
    "POST /v1/webhook-endpoints": Rule("webhooks"),
    "GET /v1/webhook-endpoints": Rule("webhooks"),
    "GET /v1/webhook-endpoints/{endpoint_id}": Rule("webhooks", "endpoint"),
    "PATCH /v1/webhook-endpoints/{endpoint_id}": Rule("webhooks", "endpoint"),
    "DELETE /v1/webhook-endpoints/{endpoint_id}": Rule("webhooks", "spare_endpoint"),
    "POST /v1/webhook-endpoints/{endpoint_id}/rotate": Rule("webhooks", "endpoint"),
    "POST /v1/webhook-endpoints/{endpoint_id}/test": Rule("webhooks", "endpoint"),
    "GET /v1/webhook-endpoints/{endpoint_id}/deliveries": Rule("webhooks", "endpoint"),
    "POST /v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}/redeliver": Rule(
        "webhooks", "delivery"
    ),
    "GET /v1/webhook-secret": Rule("webhooks"),
    "POST /v1/webhook-secret/rotate": Rule("webhooks"),
    "GET /healthz": Rule(NOBODY),
    "HEAD /healthz": Rule(NOBODY),
    "GET /readyz": Rule(NOBODY),
    "GET /metrics": Rule(NOBODY),
    "HEAD /readyz": Rule(NOBODY),
    "GET /": Rule(NOBODY),
    "HEAD /": Rule(NOBODY),
    "GET /console": Rule(NOBODY),
    "HEAD /console": Rule(NOBODY),
    "GET /openapi.json": Rule(NOBODY),
    "HEAD /openapi.json": Rule(NOBODY),
}
AT_OPERATORS = ("none", "key default", "token of one job", "identity provider", "operator")
"""One of each sort of credentials is enough where none but an operator's is good."""

PREFIXES = {"/v1/admin": Rule(OPERATORS)}
"""Rules of all routes below a path."""


@dataclass(frozen=True)
class Belongings:
    """What one user has; each is in a state in which no call that is refused changes it."""

    user: str
    job: str  # completed, with an output
    waiting_job: str  # not final, so that it cannot be erased
    file: str
    endpoint: str
    delivery: str  # with its endpoint before it
    http: httpx.AsyncClient

    async def named(self, kind: str) -> str:
        """Return what a path names; what a right call ends is made anew each time."""
        if kind == "token":
            token: str = (await minted(self.http, scopes=["jobs:read"]))["id"]
            return token
        if kind == "spare_endpoint":
            for each in (await self.http.get("/v1/webhook-endpoints")).json()["data"]:
                if each["id"] != self.endpoint:
                    return str(each["id"])
            return str((await make_endpoint(self.http))["id"])
        found: str = getattr(self, kind)
        return found


async def make_endpoint(http: httpx.AsyncClient) -> dict[str, Any]:
    body = {"url": "https://hooks.example.com/a", "events": ["job.completed"]}
    answer = await http.post("/v1/webhook-endpoints", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


MISSING = {
    "endpoint": "endpoint_" + "0" * 26,
    "spare_endpoint": "endpoint_" + "0" * 26,
    "delivery": f"endpoint_{'0' * 26} msg_{'0' * 26}",
    "job": "job_" + "0" * 26,
    "waiting_job": "job_" + "0" * 26,
    "file": "file_" + "0" * 26,
    "token": "ctok_" + "0" * 26,
}


@dataclass(frozen=True)
class Credential:
    """Headers and what they should be good for; `refused` is what answers whatever is called."""

    headers: Mapping[str, str]
    user: str | None = None
    scopes: frozenset[str] = frozenset()
    refused: str | None = None
    job: str | None = None
    is_operator: bool = False
    query: str = field(default="")


def rule_of(route: str) -> Rule:
    path = route.partition(" ")[2]
    for prefix, rule in PREFIXES.items():
        if path.startswith(f"{prefix}/"):
            return rule
    return RULES[route]


def routes_of(app: FastAPI) -> set[str]:
    return {
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }


def expected(rule: Rule, credential: Credential, owner: str | None) -> str:
    """Say what answers: `in`, or a status with what a refusal names."""
    if rule.needs in (NOBODY, OPERATORS):
        return "in" if rule.needs == NOBODY or credential.is_operator else "401"
    if credential.query:  # a signed link, without any other credential
        return "in" if rule.linked and owner == credential.user else "401"
    if credential.refused:
        return credential.refused
    if rule.needs not in {ANYBODY, *credential.scopes}:
        return f"403 {rule.needs}"
    if credential.job and not rule.one_job:
        return "403 one_job_only"
    return "in" if rule.owned is None or owner == credential.user else "404"


def found(answer: httpx.Response) -> str:
    if answer.status_code not in (401, 403, 404):
        return "in"
    if answer.status_code != 403 or answer.request.method == "HEAD":
        return str(answer.status_code)
    body = answer.json()
    named = body.get("scope") or body.get("code")
    return f"403 {named}" if named else "403"


@pytest.fixture
async def gateway(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Gateway]:
    (tmp_path / "files").mkdir()
    async with (
        running_issuer() as issuer,
        running(
            database_url,
            sandbox=sandbox,
            clock=clock,
            storage_url=f"file://{tmp_path / 'files'}",
            oidc_issuer=issuer.url,
            oidc_audience=AUDIENCE,
        ) as one,
    ):
        one.app.state.test_oidc_token = issuer.sign(
            clock.now(), claims={"exp": int(clock.now().timestamp()) + 86_400}
        )
        yield one


async def belongings(gateway: Gateway, user: str, http: httpx.AsyncClient) -> Belongings:
    submitted = await http.post("/v1/jobs", json=gateway.body("sandbox:instant"))
    assert submitted.status_code == 202, submitted.text
    job = submitted.json()["id"]
    for _ in range(50):
        await gateway.dispatch()
        await gateway.poll()
        if (await http.get(f"/v1/jobs/{job}")).json()["status"] == "completed":
            break
        gateway.wait(1)
    waiting = (await http.post("/v1/jobs", json=gateway.body("sandbox:stuck"))).json()["id"]
    uploaded = await http.post("/v1/files", content=PNG, headers={"Content-Type": "image/png"})
    assert uploaded.status_code == 201, uploaded.text
    endpoint = (await make_endpoint(http))["id"]
    delivery = (await http.post(f"/v1/webhook-endpoints/{endpoint}/test")).json()["id"]
    return Belongings(
        user=user,
        job=job,
        waiting_job=waiting,
        file=uploaded.json()["id"],
        endpoint=endpoint,
        delivery=f"{endpoint} {delivery}",
        http=http,
    )


async def credentials(
    gateway: Gateway, alice: httpx.AsyncClient, shop: httpx.AsyncClient, job: str
) -> dict[str, Credential]:
    def sent(client: httpx.AsyncClient, **more: str) -> dict[str, str]:
        return {"Authorization": client.headers["Authorization"], **more}

    def bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    kinds: dict[str, Credential] = {
        "none": Credential({}, refused="401"),
        "garbage": Credential(bearer("garbage"), refused="401"),
        "no such key": Credential(bearer(f"rcg_{'0' * 26}_{'A' * 43}"), refused="401"),
        "no such client token": Credential(bearer(f"rct_{'0' * 26}_{'A' * 43}"), refused="401"),
        "key for others without the scope": Credential(
            sent(alice, **{"X-Gateway-User": "u1"}), refused="403 act_as"
        ),
        "service": Credential(sent(shop), "shop", frozenset({*ALL_SCOPES, "act_as"})),
        "service for its user": Credential(
            sent(shop, **{"X-Gateway-User": "u1"}), "shop/u1", frozenset({*ALL_SCOPES, "act_as"})
        ),
        "operator": Credential(bearer(ADMIN_TOKEN), refused="401", is_operator=True),
    }
    default = ["jobs:read", "jobs:write", "files", "webhooks"]
    for name, scopes in {"default": default, **{scope: [scope] for scope in ALL_SCOPES}}.items():
        key = await client_with_key(gateway, scopes=scopes)
        kinds[f"key {name}"] = Credential(sent(key), "alice", frozenset(scopes))
    for scopes in (["jobs:read", "jobs:write", "files"], ["jobs:read"]):
        made = await minted(alice, scopes=scopes, expires_in=86_400)
        kinds[f"client token {scopes}"] = Credential(
            bearer(made["token"]), "alice", frozenset(scopes)
        )
    theirs = await shop.post(
        "/v1/client-tokens",
        json={"scopes": ["jobs:read"], "expires_in": 86_400},
        headers={"X-Gateway-User": "u1"},
    )
    kinds["client token of a service's user"] = Credential(
        bearer(theirs.json()["token"]), "shop/u1", frozenset({READ})
    )
    made = await minted(alice, job=job, expires_in=86_400)
    kinds["token of one job"] = Credential(
        bearer(made["token"]), "alice", frozenset({READ}), job=job
    )
    link = urlsplit(made["urls"]["outputs"][0])
    kinds["signed link"] = Credential({}, "alice", query=link.query)
    kinds["identity provider"] = Credential(
        bearer(gateway.app.state.test_oidc_token),
        "oidc/u1",
        frozenset({"jobs:read", "jobs:write", "files"}),
    )
    revoked = await client_with_key(gateway, scopes=default)
    key_id = (await revoked.get("/v1/me")).json()["key"]
    await gateway.admin.delete(f"/v1/admin/keys/{key_id}")
    kinds["revoked key"] = Credential(sent(revoked), refused="401")
    return kinds


async def test_every_route_has_a_rule_and_every_rule_a_route(gateway: Gateway) -> None:
    routes = routes_of(gateway.app)
    ruled = {route for route in routes if any(f" {prefix}/" in route for prefix in PREFIXES)}
    missing = routes - ruled - RULES.keys()
    assert not missing, f"say in RULES what these need: {sorted(missing)}"
    assert not RULES.keys() - routes


async def test_every_credential_may_what_its_rule_says(gateway: Gateway) -> None:
    alice = await client_with_key(gateway)
    shop = await client_with_key(gateway, "shop", scopes=[*ALL_SCOPES, "act_as"])
    for_u1 = gateway.client_with(shop.headers["Authorization"].removeprefix("Bearer "))
    for_u1.headers["X-Gateway-User"] = "u1"
    owners = [
        await belongings(gateway, "alice", alice),
        await belongings(gateway, "shop/u1", for_u1),
    ]
    kinds = await credentials(gateway, alice, shop, owners[0].job)
    wrong = []
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=gateway.app), base_url=PUBLIC_URL
    ) as http:
        for route in sorted(routes_of(gateway.app)):
            rule = rule_of(route)
            for kind, credential in kinds.items():
                if rule.needs == OPERATORS and kind not in AT_OPERATORS:
                    continue
                for owner in (*owners, None) if rule.owned and not credential.refused else (None,):
                    answer = await _call(http, route, rule, credential, owner)
                    who = owner.user if owner else None
                    right, got = expected(rule, credential, who), found(answer)
                    if (
                        runcomfy.is_runcomfy_path(answer.request.url.path)
                        or answer.request.method == "HEAD"
                    ):
                        right = right.partition(" ")[0]
                    if rule.needs == OPERATORS:
                        got = "in" if got == "404" else got  # nothing there has that name
                        gateway.wait(1)  # wrong tokens are answered at a rate
                    if got != right:
                        wrong.append(f"{route} of {who} by {kind}: {got}, not {right}")
    assert not wrong, "\n".join(wrong)


async def _call(
    http: httpx.AsyncClient,
    route: str,
    rule: Rule,
    credential: Credential,
    owner: Belongings | None,
) -> httpx.Response:
    method, _, path = route.partition(" ")
    named = ""
    if rule.owned:
        named = MISSING[rule.owned] if owner is None else await owner.named(rule.owned)
    names, parts = iter(named.split()), []
    for part in path.split("/"):
        match part:
            case "{n}":
                parts.append("0")
            case "{model_id:path}":
                parts.append(SEEDANCE)
            case _ if part.startswith("{"):
                parts.append(next(names, "nothing"))
            case _:
                parts.append(part)
    url = "/".join(parts) + (f"?{credential.query}" if credential.query else "")
    body: Any = {} if method in ("POST", "PUT", "PATCH") else None
    # Whoever is let into a stream of all jobs is turned back by this: it would not end.
    headers = {**credential.headers, "Last-Event-ID": "nothing like one"}
    return await http.request(method, url, headers=headers, json=body)
