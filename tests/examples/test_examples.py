"""What is in examples/, and clients generated from the OpenAPI document, against a gateway."""

import asyncio
import functools
import http.server
import json
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import running_browser
from tests.support.served import Served, serving

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GENERATOR = ROOT / ".venv-clients" / "bin" / "openapi-python-client"
MODULES = EXAMPLES / "typescript" / "node_modules"
SPEED = 40

GENERATED = """
import os, sys, time
from gateway_client import AuthenticatedClient
from gateway_client.api.events import follow_job
from gateway_client.api.jobs import get_job, submit_job
from gateway_client.api.outputs import download_output
from gateway_client.api.requests import get_request_result
from gateway_client.models import JobCreate

client = AuthenticatedClient(base_url=os.environ["GATEWAY_URL"], token=os.environ["GATEWAY_KEY"])
body = JobCreate.from_dict({
    "model": "bytedance/seedance-1-0/pro/image-to-video",
    "input": {"prompt": "a walk", "first_frame_image_url": sys.argv[1], "duration": 2},
})
job = submit_job.sync(client=client, body=body)
while job.finished_at is None:
    time.sleep(0.1)
    job = get_job.sync(job.id, client=client)
result = get_request_result.sync(job.id, client=client, include_cost=True)
film = download_output.sync(job.id, 0, client=client).payload.read()
print(follow_job.sync(job.id, client=client).splitlines()[3])
print(job.status, result.status, result.cost, film[4:8].decode())
"""


@pytest.fixture
def origin() -> Iterator[str]:
    """Serve the examples from an origin of their own, as a team's web server would."""
    with _static(EXAMPLES) as address:
        yield address


@pytest.fixture
async def served(tmp_path: Path, origin: str) -> AsyncIterator[Served]:
    async with serving(
        f"sqlite:///{tmp_path}/gateway.db",
        tmp_path,
        speed=SPEED,
        cors_origins=(origin,),
        inspect_media="require",
        allow_private_networks=True,
    ) as served:
        await served.knows_prices()
        yield served


async def test_the_python_script_saves_a_film(served: Served, tmp_path: Path) -> None:
    out = await _run(sys.executable, EXAMPLES / "submit.py", served.picture, by=served, at=tmp_path)
    film = tmp_path / out.splitlines()[-1]
    assert film.read_bytes()[4:8] == b"ftyp"
    wrong = await _run(
        *(sys.executable, EXAMPLES / "submit.py", "ftp://example.com/a.png"),
        by=served,
        at=tmp_path,
        code=1,
    )
    assert "first_frame_image_url" in wrong


async def test_the_page_plays_a_film_and_never_sees_a_key(served: Served, origin: str) -> None:
    async with served.client() as service:
        minted = await service.post(
            "/v1/client-tokens",
            json={"scopes": ["jobs:write", "jobs:read"], "max_jobs": 1, "origin": origin},
        )
    assert minted.status_code == 201, minted.text
    asked: set[str] = set()
    async with running_browser() as browser:
        page = await browser.new_page()
        page.on("request", lambda request: asked.add(request.url))
        await page.goto(f"{origin}/page.html")
        # A proxy may have put it below a path, which it takes away.
        below = f"{served.url}/video"
        await page.route(
            f"{below}/**",
            lambda route: route.continue_(url=route.request.url.replace("/video", "")),
        )
        await page.get_by_label("Gateway").fill(f"{below}/")
        await page.get_by_label("Client token").fill(minted.json()["token"])
        await page.get_by_label("First frame").fill(served.picture)
        await page.get_by_role("button").click()
        status = page.get_by_role("status")
        await status.get_by_text("completed", exact=True).wait_for()
        await page.wait_for_function("document.querySelector('video').videoWidth > 0")
        await page.get_by_role("button").click()
        await status.get_by_text("max_jobs").wait_for()
    assert {address.split("/v1/")[0].removesuffix("/page.html") for address in asked} <= {
        *(below, served.url, origin, f"{origin}/favicon.ico")
    }
    assert f"{below}/v1/jobs" in asked
    assert not any(minted.json()["token"] in address for address in asked)


async def test_generated_types_compile_and_the_client_submits_and_reads(served: Served) -> None:
    assert shutil.which("npm"), "npm is missing: run make tools"
    assert (MODULES / "typescript").exists(), "TypeScript is not installed: run make generators"
    folder = EXAMPLES / "typescript"
    for script in ("types", "build"):
        await _run("npm", "run", "--silent", script, by=served, at=folder)
    out = await _run("node", "build/submit.js", served.picture, by=served, at=folder)
    job: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert job["status"] == "completed"
    assert job["video"].startswith(f"{served.url}/v1/jobs/{job['id']}/outputs/0?")
    wrong = "ftp://example.com/a.png"
    out = await _run("node", "build/submit.js", wrong, by=served, at=folder, code=1)
    assert "Error: `first_frame_image_url` must be" in out


async def test_a_generated_python_client_submits_follows_and_downloads(
    served: Served, tmp_path: Path
) -> None:
    assert GENERATOR.exists(), "The generator is not installed: run make generators"
    document = ROOT / "openapi" / "openapi.json"
    await _run(
        *(GENERATOR, "generate", "--path", document, "--meta", "none"),
        *("--output-path", "gateway_client"),
        by=served,
        at=tmp_path,
    )
    (tmp_path / "use.py").write_text(GENERATED)
    out = await _run(sys.executable, "use.py", served.picture, by=served, at=tmp_path)
    assert out.splitlines()[-2:] == ["event: job.completed", "completed succeeded 0.2 ftyp"]


async def _run(*command: object, by: Served, at: Path, code: int = 0) -> str:
    """Run a program that uses the gateway; gives what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=at,
        env=os.environ | {"GATEWAY_URL": by.url, "GATEWAY_KEY": by.key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == code, out.decode()
    return out.decode()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's argument
        """Say nothing."""


@contextmanager
def _static(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
