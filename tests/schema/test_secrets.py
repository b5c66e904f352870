"""A process whose secrets came by its environment: they are nowhere that others can look."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from app.core.clock import SystemClock
from app.sandbox import SandboxConfig, running_sandbox
from tests.support.gateway import SEEDANCE, TOKEN
from tests.support.issuer import AUDIENCE, Issuer, running_issuer
from tests.support.keys import make_key
from tests.support.processes import gateway_process
from tests.support.receiver import receiving

SECRET = "the-key-that-signs-links-0123456789abcdef"
ADMIN_TOKEN = "the-token-of-the-operators-0123456789"
PROMPT = "a-prompt-that-nobody-else-may-read"
PICTURE = "https://example.com/a.png?sig=private-signature"

# An end of every kind, and upstream's own words on the token.
WORDS = [
    *("sandbox:instant", "sandbox:instant sandbox:fail", "sandbox:lost-answer"),
    *("sandbox:submit-422", "sandbox:submit-html", "sandbox:poll-504=1 sandbox:instant"),
]
SETTLED_WITHIN_S = 150
_LOOK = timedelta(milliseconds=100)


async def test_no_secret_is_where_it_should_not_be(tmp_path: Path) -> None:
    async with (
        running_issuer() as issuer,
        receiving() as collector,
        running_sandbox(
            SandboxConfig(directory=tmp_path / "sandbox", token=TOKEN, speed=10)
        ) as upstream_url,
        gateway_process(
            tmp_path / "gateway",
            upstream_url=upstream_url,
            GATEWAY_SECRET_KEY=SECRET,
            GATEWAY_ADMIN_TOKEN=ADMIN_TOKEN,
            GATEWAY_LOG_FORMAT="console",
            GATEWAY_LOG_LEVEL="debug",
            GATEWAY_OIDC_ISSUER=issuer.url,
            GATEWAY_OIDC_AUDIENCE=AUDIENCE,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.server.url,
        ) as gateway,
    ):
        await gateway.ready()
        key = await make_key(f"sqlite:///{gateway.folder}/gateway.db")
        told, signatures = await _use(gateway.url, key)
        borrowed = await _lend(gateway.url, issuer)
        # Now, while what was written last is in the WAL.
        stored = b"".join(
            path.read_bytes() for path in gateway.folder.glob("gateway.db*") if path.is_file()
        )
        await gateway.stop()
        log = (gateway.folder / "log").read_text()
        traces = b"".join(each.body for each in collector.server.received)

    assert "job.advanced" in log
    for span in (b"POST /v1/jobs", b"dispatch", b"poll", b"UPDATE"):
        assert span in traces
    assert PROMPT.encode() in stored, "the look into the database sees nothing"
    assert signatures
    for secret in (TOKEN, SECRET, ADMIN_TOKEN):
        assert secret not in told
        assert secret not in log
        assert secret.encode() not in stored + traces
    for private in (key, key[-43:], PROMPT, "private-signature", "private-metadata", *signatures):
        assert private not in log
        assert private.encode() not in traces
    for hidden in (key[-43:], upstream_url):
        assert hidden not in told
        assert hidden.encode() not in traces
    assert key[-43:].encode() not in stored
    for secret in borrowed:
        assert secret not in log
        assert secret.encode() not in stored + traces
    for shape in ("rct_", "rcg_", "signature=", "eyJ"):
        assert shape not in log, "there is one that this test does not know"


async def _lend(url: str, issuer: Issuer) -> set[str]:
    """Use what browsers get: client tokens, links, an issuer's tokens; returns their secrets."""
    jwt = issuer.sign(SystemClock().now())
    mint = {"user": "bob", "scopes": ["jobs:read", "jobs:write", "tokens"]}
    async with (
        _client(url, ADMIN_TOKEN) as admin,
        _client(url, jwt) as user,
        httpx.AsyncClient(timeout=30) as browser,
    ):
        await admin.post("/v1/admin/users", json={"id": "bob"})
        made = (await admin.post("/v1/admin/keys", json=mint)).raise_for_status().json()
        async with _client(url, made["key"]) as http:
            wide = (await http.post("/v1/client-tokens", json={"scopes": ["jobs:write"]})).json()
            async with _client(url, wide["token"]) as app:
                job = (await app.post("/v1/jobs", json=_body("sandbox:instant"))).json()
            await _settled(http, job["id"])
            one = (await http.post("/v1/client-tokens", json={"job": job["id"]})).json()
            links = [one["urls"]["events"], *one["urls"]["outputs"]]
            for link in (*links, *job["urls"]["outputs"]):
                assert (await browser.get(link)).is_success
                assert (await browser.get(f"{link}x")).is_client_error
                assert (await browser.get(link.replace(job["id"], "job_%00"))).is_client_error
                assert (await browser.post(link)).status_code == 405
            async with _client(url, one["token"]) as app:
                await app.get(f"/v1/jobs/{job['id']}")
                await app.get("/v1/me", params={"token": one["token"], "jwt": jwt})
            assert (await http.delete(f"/v1/client-tokens/{one['id']}")).is_success
            assert {(await browser.get(link)).status_code for link in links} == {401}
        assert (await user.post("/v1/jobs", json=_body(""))).status_code == 202
        for bad in (f"{jwt}x", jwt.rpartition(".")[0] + ".", f"{wide['token']}x"):
            async with _client(url, bad) as stranger:
                assert (await stranger.get("/v1/jobs")).status_code == 401
    signatures = {link.rpartition("=")[2] for link in links}
    parts = {jwt, *jwt.split(".")}
    return {wide["token"][-43:], one["token"][-43:], made["key"][-43:], *signatures, *parts}


async def _use(url: str, key: str) -> tuple[str, list[str]]:
    """Do what clients do, well and badly; gives all that was told, and the links' signatures."""
    async with _client(url, key) as http:
        submitted = [await http.post("/v1/jobs", json=_body(words)) for words in WORDS]
        jobs = [await _settled(http, answer.json()["id"]) for answer in submitted]
        assert {"completed", "failed", "submit_unknown"} <= {job["status"] for job in jobs}
        links = [link for job in jobs for link in job["urls"]["outputs"]]
        answers = [
            *submitted,
            await http.get("/v1/jobs"),
            await http.head(links[0]),
            await http.get(f"{links[0]}x"),
            await http.post("/v1/jobs", json=_body("") | {"unknown": PROMPT}),
            await http.post("/v1/jobs", content=b"{"),
            await http.post(f"/v1/jobs/{jobs[0]['id']}/cancel"),
            await http.get("/v1/jobs", headers={"Authorization": f"Bearer {key[:-1]}"}),
            await http.get("/v1/admin/keys"),
            await http.get("/v1/admin/keys", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}),
            await http.get("/v1/models"),
            await http.get("/openapi.json"),
            await http.get("/nothing"),
        ]
    told = "".join(f"{answer.headers}{answer.text}" for answer in answers) + str(jobs)
    return told, [httpx.URL(link).params["signature"] for link in links]


async def _settled(http: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while True:
            job: dict[str, Any] = (await http.get(f"/v1/jobs/{job_id}")).json()
            if job["finished_at"] or job["status"] == "submit_unknown":
                return job
            await SystemClock().sleep(_LOOK)


def _client(url: str, token: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=30)


def _body(words: str) -> dict[str, Any]:
    return {
        "model": SEEDANCE,
        "input": {"prompt": f"{PROMPT} {words}", "first_frame_image_url": PICTURE},
        "metadata": {"order": "private-metadata"},
    }
