"""What the gateway is measured beside. Each is a process on the core of the system under test."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.core.clock import SystemClock
from bench.load import ROOT, SYSTEM, Connection, on_core, request
from tests.support.gateway import SEEDANCE
from tests.support.processes import free_port

LITELLM = "litellm[proxy]==1.106.2"
_LITELLM_FOLDER = ROOT / "build" / "litellm"
_TOKEN = "sk-bench-0123456789"
_STARTS_WITHIN_S = 120

INPUT = (
    b'{"prompt":"the camera drifts forward over a calm sea at dawn",'
    b'"first_frame_image_url":"https://example.com/a.png","duration":5}'
)

_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 10000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream runcomfy {{ server {upstream}; keepalive 128; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://runcomfy;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer upstream";
    }}
  }}
}}
"""

_LITELLM = """
model_list: []
general_settings:
  master_key: {token}
  pass_through_endpoints:
    - path: /v1/submit
      target: {upstream}/v1/models/{model}
      headers: {{Authorization: Bearer upstream}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something that is measured; what it cannot do is None."""

    name: str
    port: int
    pid: int
    submit: bytes | None = None
    accepts_with: int = 200
    read: bytes | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A peer that is not available, and why."""

    name: str
    why: str


@asynccontextmanager
async def peers(folder: Path, *, upstream: str) -> AsyncIterator[Sequence[Subject | Missing]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(each(folder, upstream=upstream))
            for each in (_nginx, _bare, _litellm)
        ]


@asynccontextmanager
async def _nginx(folder: Path, *, upstream: str) -> AsyncIterator[Subject | Missing]:
    name = "nginx `proxy_pass`, token injected"
    binary = shutil.which("nginx") or _installed("nginx")
    if binary is None:
        yield Missing(name, "there is no nginx here, and it could not be installed with apt-get")
        return
    port = free_port()
    config = folder / "nginx.conf"
    own = folder / "nginx"
    own.mkdir()
    config.write_text(
        _NGINX.format(folder=own, port=port, upstream=upstream.removeprefix("http://"))
    )
    async with _running([binary, "-c", str(config), "-p", str(own)], port) as pid:
        yield Subject(name=name, port=port, pid=pid, submit=_submit(f"/v1/models/{SEEDANCE}"))


@asynccontextmanager
async def _bare(_: Path, *, upstream: str) -> AsyncIterator[Subject]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.bare:app", f"--port={port}"]
    command += ["--no-access-log", "--log-level=warning"]
    async with _running(command, port, BENCH_UPSTREAM=upstream) as pid:
        yield Subject(
            name="bare FastAPI, httpx",
            port=port,
            pid=pid,
            submit=_submit(f"/v1/models/{SEEDANCE}"),
            read=request("GET", "/v1/jobs/job_1", token=_TOKEN),
        )


@asynccontextmanager
async def _litellm(folder: Path, *, upstream: str) -> AsyncIterator[Subject | Missing]:
    name = f"LiteLLM {LITELLM.partition('==')[2]} pass-through"
    binary = _LITELLM_FOLDER / "bin" / "litellm"
    if not binary.exists() and (fault := _install_litellm()):
        yield Missing(name, fault)
        return
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM.format(token=_TOKEN, upstream=upstream, model=SEEDANCE))
    command = [str(binary), "--config", str(config), "--host=127.0.0.1", f"--port={port}"]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    async with _running([*command, "--telemetry=False"], port, **offline) as pid:
        yield Subject(name=name, port=port, pid=pid, submit=_submit("/v1/submit"))


def _submit(path: str) -> bytes:
    return request("POST", path, token=_TOKEN, body=INPUT)


def _installed(package: str) -> str | None:
    """Install a Debian package where that is allowed, without starting what is in it."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {package}.", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for step in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", "-qq", *step], env=environment, stdout=subprocess.DEVNULL, check=False
            )
    return shutil.which(package)


def _install_litellm() -> str | None:
    """Install it apart from our own packages; return what went wrong."""
    print(f"Installing {LITELLM} into {_LITELLM_FOLDER}: some minutes.", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", _LITELLM_FOLDER], check=False)
    if made.returncode == 0:
        pip = _LITELLM_FOLDER / "bin" / "pip"
        made = subprocess.run([pip, "install", "-qq", LITELLM], check=False)
    if made.returncode == 0:
        return None
    shutil.rmtree(_LITELLM_FOLDER, ignore_errors=True)
    return "it could not be installed with pip"


@asynccontextmanager
async def _running(command: Sequence[str], port: int, **settings: str) -> AsyncIterator[int]:
    """Run a server on the core of the system under test; returns its process id."""
    with on_core(SYSTEM):
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=_environment(settings),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    try:
        await _listens(port, process)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **settings}


async def _listens(port: int, process: asyncio.subprocess.Process) -> None:
    clock = SystemClock()
    ends = clock.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            (await Connection.open(port)).close()
        except OSError:
            if process.returncode is not None or clock.monotonic() > ends:
                raise
            await clock.sleep(timedelta(milliseconds=100))
        else:
            return
