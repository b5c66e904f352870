"""The sandbox as an app, and on a socket of its own inside the event loop that is running."""

import asyncio
import importlib.util
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette

from app.core.clock import Clock, SystemClock
from app.core.errors import ConfigurationError
from app.core.listening import listening, url_of
from app.sandbox.config import SandboxConfig
from app.sandbox.faults import ReachableProtocol

logger = structlog.get_logger(__name__)

_SYSTEM_CLOCK = SystemClock()
# Longer than any client keeps an idle connection, since a reused one could break under a submit.
_KEEP_ALIVE_S = 600


def require_extra() -> None:
    """Raise ConfigurationError unless the sandbox's extra is installed."""
    if any(importlib.util.find_spec(name) is None for name in ("av", "PIL")):
        raise ConfigurationError(
            "The sandbox draws its own pictures; install what it needs:"
            " pip install 'runcomfy-gateway[sandbox]'"
        )


def create_sandbox(config: SandboxConfig, *, clock: Clock = _SYSTEM_CLOCK) -> Starlette:
    """Build an app that opens its state when first used and closes it with its lifespan."""
    require_extra()
    # Imported only now, since it needs the extra.
    from app.sandbox.app import assemble  # noqa: PLC0415

    return assemble(config, clock=clock)


@asynccontextmanager
async def running_sandbox(
    config: SandboxConfig,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    clock: Clock = _SYSTEM_CLOCK,
) -> AsyncIterator[str]:
    """Serve until the block ends, and yield the base URL.

    Without a `port` it takes the one this directory had last time, since links to outputs live on
    in other people's databases.
    """
    app = create_sandbox(config, clock=clock)
    with _listening(host, port, memory=config.directory / "port") as listener:
        server = _Server(
            uvicorn.Config(
                app,
                http=ReachableProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
            )
        )
        # No task group: it would wrap every exception of the caller's block in a group.
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await server.ready.wait()
            yield url_of(listener)
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """Leaves signals to the program around it, and says when it is listening."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # An answer that hangs on purpose would delay the stop for ever.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


@contextmanager
def _listening(host: str, port: int | None, *, memory: Path) -> Iterator[socket.socket]:
    """Take the requested port, else the remembered one, else a free one, and remember it.

    If another process has the remembered one, it stays remembered: earlier links lead there.
    """
    with ExitStack() as stack:
        wanted = _remembered(memory) if port is None else port
        try:
            listener = stack.enter_context(listening(host, wanted))
        except ConfigurationError:
            if port is not None:
                raise
            logger.warning("sandbox.port_taken", port=wanted)
            listener = stack.enter_context(listening(host, 0))
        else:
            _remember(memory, listener.getsockname()[1])
        yield listener


def _remember(memory: Path, port: int) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(str(port), "utf-8")
    except OSError as exc:
        raise ConfigurationError(
            f"Nothing can be kept in {memory.parent} ({exc.strerror}); choose another with --data."
        ) from exc


def _remembered(memory: Path) -> int:
    return int(memory.read_text("utf-8")) if memory.exists() else 0
