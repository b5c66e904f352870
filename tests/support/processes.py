"""Gateways and sandboxes as processes of their own, so that they can be killed."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx

from app.core.clock import SystemClock
from tests.support.gateway import TOKEN

COMMAND = Path(sys.executable).with_name("gateway")
START_WITHIN_S = 300
STOP_WITHIN_S = 90
_LOOK = timedelta(milliseconds=20)


def free_port() -> int:
    """Reserve a port until this process ends: only whoever names it can listen there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers set it too
    held.bind(("127.0.0.1", 0))
    port: int = held.getsockname()[1]
    held.detach()  # so that it stays open
    return port


@dataclass
class Server:
    """A `gateway` command that listens; it may be killed and started again, on the same port."""

    arguments: tuple[str, ...]
    folder: Path
    health: str
    environment: dict[str, str] = field(default_factory=dict)
    command: Path = COMMAND
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the process, without waiting until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.command,
                *self.arguments,
                f"--port={self.port}",
                cwd=self.folder,
                env=_environment(self.environment),
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        # Reading certificates, which nothing here needs, takes 20 ms.
        async with asyncio.timeout(START_WITHIN_S), httpx.AsyncClient(verify=False) as http:
            while not await self._answers(http):
                assert self.process is not None
                assert self.process.returncode is None, (self.folder / "log").read_text()
                await SystemClock().sleep(_LOOK)

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and return the seconds until the process was gone."""
        assert self.process is not None
        started = SystemClock().monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(STOP_WITHIN_S):
            ended = await self.process.wait()
        assert ended == (-number if number == signal.SIGKILL else 0)
        self.process = None
        return SystemClock().monotonic() - started

    async def _answers(self, http: httpx.AsyncClient) -> bool:
        try:
            return (await http.get(self.url + self.health)).is_success
        except httpx.TransportError:
            return False


@asynccontextmanager
async def sandbox_process(folder: Path, *, speed: float) -> AsyncIterator[Server]:
    arguments = ("sandbox", "--data=data", f"--speed={speed}", f"--token={TOKEN}")
    async with _started(Server(arguments, folder, health="/sandbox/requests")) as server:
        yield server


@asynccontextmanager
async def gateway_process(
    folder: Path, *, upstream_url: str, command: Path = COMMAND, **settings: str
) -> AsyncIterator[Server]:
    """Serve on an SQLite file of the folder's own, unless `settings` name another database."""
    environment = {
        "RUNCOMFY_API_TOKEN": TOKEN,
        "GATEWAY_UPSTREAM_URL": upstream_url,
        "GATEWAY_POLLS_PER_SECOND": "500",
        "GATEWAY_DATABASE_URL": "sqlite:///gateway.db",
        "GATEWAY_INSPECT_MEDIA": "off",
        **settings,
    }
    server = Server(("serve",), folder, "/healthz", environment, command)
    async with _started(server):
        yield server


async def run(server: Server, *arguments: str) -> tuple[int, str, str]:
    """Run another `gateway` command in the same folder; return code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        cwd=server.folder,
        env=_environment(server.environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(START_WITHIN_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def worker_process(
    beside: Server, *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `gateway worker` in the folder of a gateway that was stopped."""
    with (beside.folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "worker",
            *options,
            cwd=beside.folder,
            env=_environment(beside.environment),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _started(server: Server) -> AsyncIterator[Server]:
    try:
        await server.start()
        yield server
    finally:
        if server.process is not None:
            await server.kill()


def _environment(own: dict[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "RUNCOMFY_"))
    }
    return inherited | own
