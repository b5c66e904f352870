"""`gateway demo`: a picture becomes a video as you watch, and nothing is left behind."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from textwrap import indent
from typing import Any

import httpx
from anyio import to_thread
from pydantic import SecretStr

from app.auth.directory.keys import KeyDirectory
from app.bootstrap.database import prepare_database
from app.core.clock import SystemClock
from app.core.errors import ConfigurationError
from app.core.stopping import stop_signals
from app.db.engine import opened_database
from app.demo.printing import answer_of, say
from app.net.clients import trusted
from app.sandbox import SandboxConfig, running_sandbox
from app.server import running_gateway
from app.settings import Settings, explicit_settings
from app.upstream.accounts import DEFAULT, Account

_MODEL = "bytedance/seedance-1-0/pro/image-to-video"
_PROMPT = "golden hour over the hills, the camera drifts slowly forward"
_LOOK = timedelta(milliseconds=250)
_PATIENCE = timedelta(minutes=2)


async def run(output: Path) -> None:
    """Submit the first model's job to a sandboxed gateway and save its video to `output`."""
    _require_place(output)
    # By default these end the process at once and leave the folder behind.
    for number in stop_signals() - {signal.SIGINT}:
        asyncio.get_running_loop().add_signal_handler(number, signal.raise_signal, signal.SIGINT)
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
        sandbox = SandboxConfig(directory=Path(folder, "sandbox"))
        async with running_sandbox(sandbox, port=0) as sandbox_url:
            settings = explicit_settings(
                api_token=(Account(DEFAULT, SecretStr("sandbox-token")),),
                upstream_url=sandbox_url,
                database_url=f"sqlite:///{folder}/gateway.db",
                # The picture comes from the sandbox, which is on this machine.
                allow_private_networks=True,
            )
            key = await _make_key(settings)
            async with (
                running_gateway(settings) as gateway_url,
                trusted(
                    timeout=timedelta(seconds=30), connections=4, keepalive=timedelta(seconds=5)
                ) as client,
            ):
                client.headers["Authorization"] = f"Bearer {key}"
                client.base_url = httpx.URL(gateway_url)
                picture = f"{sandbox_url}/samples/first-frame.jpg"
                say(f"A gateway runs at {gateway_url}, a RunComfy sandbox at {sandbox_url}.\n")
                await _make_video(client, key=key, picture=picture, output=output)


def _require_place(output: Path) -> None:
    """Fail now rather than after the video is made."""
    folder = output.absolute().parent
    if output.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{output} cannot be written; choose another with --output.")


async def _make_video(client: httpx.AsyncClient, *, key: str, picture: str, output: Path) -> None:
    request = {
        "model": _MODEL,
        "input": {
            "prompt": _PROMPT,
            "first_frame_image_url": picture,
            "resolution": "480p",
            "duration": 5,
        },
    }
    base = str(client.base_url).rstrip("/")
    say("Submit a job:")
    say(f"""
  curl -s {base}/v1/jobs \\
    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{indent(json.dumps(request, indent=2), "    ").strip()}'
""")
    job = answer_of(await client.post("/v1/jobs", json=request))
    say("Follow it:\n")
    say(f"  curl -s {job['urls']['self']} -H 'Authorization: Bearer {key}'\n")
    job = await _follow(client, job)
    if job["status"] != "completed":
        raise ConfigurationError(f"The demo's job ended as {job['status']}: {job['error']}.")
    video = job["output"]["video"]
    say("\nFetch the video, by a link that works without the key for a day:\n")
    say(f"  curl -s -o {output} '{video}'\n")
    size = await _download(client, video, output)
    say(f"Saved {output} ({size / 1024:.0f} kB). Open it in any player or browser.")
    say("This gateway ends now; GATEWAY_UPSTREAM_URL=sandbox gateway serve starts one that stays.")


async def _follow(client: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    clock, shown = SystemClock(), ""
    began = clock.monotonic()
    while True:
        elapsed = clock.monotonic() - began
        if sys.stdout.isatty():
            sys.stdout.write(f"\r\033[K  {elapsed:5.1f} s  {_progress(job)}")
            sys.stdout.flush()
        elif _progress(job) != shown:
            say(f"  {elapsed:5.1f} s  {_progress(job)}")
        shown = _progress(job)
        if job["finished_at"] is not None:
            say("")
            return job
        if elapsed > _PATIENCE.total_seconds():
            raise ConfigurationError("The demo's job did not end; the log says why.")
        await clock.sleep(_LOOK)
        job = answer_of(await client.get(f"/v1/jobs/{job['id']}"))


def _progress(job: dict[str, Any]) -> str:
    status: str = job["status"]
    position = job["queue_position"]
    return status if position is None else f"{status}, queue position {position}"


async def _download(client: httpx.AsyncClient, url: str, output: Path) -> int:
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        content = b"".join([piece async for piece in response.aiter_raw()])
    await to_thread.run_sync(output.write_bytes, content)
    return len(content)


async def _make_key(settings: Settings) -> str:
    prepare_database(settings)
    async with opened_database(settings.database_url) as database:
        keys = KeyDirectory(database=database, clock=SystemClock(), known_models=frozenset)
        made = await keys.create("demo", {"name": "demo"}, actor="system", make_user=True)
        return str(made.credential)
