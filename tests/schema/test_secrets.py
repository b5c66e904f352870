"""A process whose secrets came by its environment: they are nowhere that others can look."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from app.core.clock import SystemClock
from tests.support.gateway import SEEDANCE, TOKEN
from tests.support.processes import gateway_process, run, sandbox_process

SECRET = "the-key-that-signs-links-0123456789abcdef"
ADMIN_TOKEN = "the-token-of-the-operators-0123456789"
PROMPT = "a-prompt-that-nobody-else-may-read"
PICTURE = "https://example.com/a.png?sig=private-signature"

# An end of every kind, and upstream's own words on the token.
WORDS = [
    *("sandbox:instant", "sandbox:instant sandbox:fail", "sandbox:lost-answer"),
    *("sandbox:submit-422", "sandbox:submit-html", "sandbox:poll-504=1 sandbox:instant"),
]
SETTLED_WITHIN_S = 60
_LOOK = timedelta(milliseconds=100)


async def test_no_secret_is_where_it_should_not_be(tmp_path: Path) -> None:
    async with (
        sandbox_process(tmp_path / "sandbox", speed=10) as sandbox,
        gateway_process(tmp_path / "gateway", upstream_url=sandbox.url) as gateway,
    ):
        await asyncio.gather(sandbox.ready(), gateway.ready())
        await gateway.stop()
        gateway.environment |= {
            "GATEWAY_SECRET_KEY": SECRET,
            "GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN,
            "GATEWAY_LOG_FORMAT": "console",
            "GATEWAY_LOG_LEVEL": "debug",
        }
        await gateway.start()
        await gateway.ready()
        _, key, _ = await run(gateway, "keys", "create", "--user", "alice")
        key = key.strip()
        told, signatures = await _use(gateway.url, key)
        # Now, while what was written last is in the WAL.
        stored = b"".join(
            path.read_bytes() for path in gateway.folder.glob("gateway.db*") if path.is_file()
        )
        await gateway.stop()
        log = (gateway.folder / "log").read_text()

    assert "job.advanced" in log
    assert PROMPT.encode() in stored, "the look into the database sees nothing"
    assert signatures
    for secret in (TOKEN, SECRET, ADMIN_TOKEN):
        assert secret not in told
        assert secret not in log
        assert secret.encode() not in stored
    for private in (key, key[-43:], PROMPT, "private-signature", "private-metadata", *signatures):
        assert private not in log
    for hidden in (key[-43:], sandbox.url):
        assert hidden not in told
    assert key[-43:].encode() not in stored


async def _use(url: str, key: str) -> tuple[str, list[str]]:
    """Do what clients do, well and badly; gives all that was told, and the links' signatures."""
    async with httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30
    ) as http:
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
    return told, [link.rpartition("=")[2] for link in links]


async def _settled(http: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while True:
            job: dict[str, Any] = (await http.get(f"/v1/jobs/{job_id}")).json()
            if job["finished_at"] or job["status"] == "submit_unknown":
                return job
            await SystemClock().sleep(_LOOK)


def _body(words: str) -> dict[str, Any]:
    return {
        "model": SEEDANCE,
        "input": {"prompt": f"{PROMPT} {words}", "first_frame_image_url": PICTURE},
        "metadata": {"order": "private-metadata"},
    }
