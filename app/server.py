"""Runs a gateway on a socket: database checked first, URL known, shutdown orderly."""

import asyncio
import ipaddress
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import structlog
import uvicorn
from fastapi import FastAPI

from app.api.protocol import StrictProtocol
from app.bootstrap.accounts import require_accounts
from app.bootstrap.database import prepare_database, sole_worker
from app.bootstrap.parts import open_parts
from app.core.clock import SystemClock
from app.core.errors import ConfigurationError
from app.core.listening import listening, url_of
from app.core.metrics import Metrics
from app.core.stopping import stop_signal
from app.core.tracing import Tracing
from app.main import create_app, create_probe
from app.settings import Settings, unknown_names

logger = structlog.get_logger(__name__)

# Open requests have this long to end after SIGTERM; the workers have a grace of their own.
_DRAIN_S = 3
_LAST_WORDS_S = 2
# A request sent on a connection that is just being closed gets no answer: so this is longer than
# clients pause between polls, and longer than load balancers keep idle connections.
_KEEP_ALIVE_S = 620


async def serve(
    settings: Settings, *, host: str, port: int, announce: Callable[[str], None]
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; call `announce` with the public URL once ready.

    Raises ConfigurationError or DatabaseUnavailableError if it cannot start.
    """
    _raise_open_file_limit()
    closing = stop_signal()
    with sole_worker(settings), listening(host, port) as listener, _tracing() as tracing:
        await _prepare(settings)
        public_url = _public_url(settings, listener)
        async with _opened(settings, public_url, closing=closing, tracing=tracing) as app:
            announce(public_url)
            await _serve_until(closing, app, listener)


async def work(settings: Settings, *, host: str, port: int | None) -> None:
    """Do only the background work, until one of the same signals.

    With a port it serves health and metrics. Raises ConfigurationError if it cannot start.
    """
    _raise_open_file_limit()
    stop, clock, metrics = stop_signal(), SystemClock(), Metrics()
    with ExitStack() as stack:
        stack.enter_context(sole_worker(settings))
        listener = None if port is None else stack.enter_context(listening(host, port))
        await _prepare(settings)
        # Webhooks contain links: without a public URL this process leaves them to those that serve.
        # Nothing else here makes links, so any URL will do.
        delivers = settings.public_url is not None
        public_url = settings.public_url or "http://127.0.0.1"
        async with open_parts(
            settings,
            clock=clock,
            metrics=metrics,
            tracing=stack.enter_context(_tracing()),
            public_url=public_url,
            closing=stop,
        ) as parts:
            if settings.is_sqlite:
                await parts.free_leases()
            logger.info("worker.ready", name=parts.workers.name, delivers=delivers)
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(metrics.watch_loop(clock=clock))
                if listener is not None:
                    probe = create_probe(settings, parts, metrics=metrics, clock=clock)
                    group.create_task(_serve_until(stop, probe, listener))
                await parts.workers.run(stop, delivers=delivers)
                watching.cancel()


@asynccontextmanager
async def running_gateway(settings: Settings) -> AsyncIterator[str]:
    """Serve on loopback inside this event loop, without touching signals; yield the URL."""
    with sole_worker(settings), listening("127.0.0.1", 0) as listener:
        await _prepare(settings)
        public_url = _public_url(settings, listener)
        closing = asyncio.Event()
        failure: Exception | None = None
        async with _opened(settings, public_url, closing=closing) as app:
            serving = asyncio.ensure_future(_serve_until(closing, app, listener))
            try:
                yield public_url
            except Exception as exc:  # noqa: BLE001 - raised again, outside
                failure = exc  # which the app's task group would wrap
            finally:
                closing.set()
                await serving
        if failure is not None:
            raise failure


def _raise_open_file_limit() -> None:
    """Raise the soft limit, which is often 1,024 for the sake of old programs, to the hard one.

    Beyond it the event loop closes each new connection at once, and nobody learns why.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox may forbid it, macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve_until(closing: asyncio.Event, app: FastAPI, listener: socket.socket) -> None:
    """Serve until `closing` is set, and then for as long as open requests may take.

    Requests that wait for `closing` themselves, as streams do, end before uvicorn waits for them.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=StrictProtocol,
            loop="none",
            lifespan="off",  # see _opened
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_DRAIN_S,
        )
    )

    async def close() -> None:
        await closing.wait()
        server.should_exit = True

    watching = asyncio.ensure_future(close())
    try:
        # `_serve` is `serve` without its signal handlers, which would end the process by the signal
        # and not by a return.
        await server._serve(sockets=[listener])  # noqa: SLF001
        if late := server.server_state.tasks:
            # uvicorn has cancelled them, but does not wait while they answer and undo uploads.
            await asyncio.wait(late, timeout=_LAST_WORDS_S)
    finally:
        watching.cancel()


def _is_news(record: logging.LogRecord) -> bool:
    """Whether we have not logged it ourselves: we say why an answer has no end."""
    return record.msg != "ASGI callable returned without completing response."


async def _prepare(settings: Settings) -> None:
    """Log misspelt settings; bring the database up to date, or raise ConfigurationError."""
    for name, likeliest in unknown_names().items():
        logger.warning("settings.unknown", name=name, perhaps_meant=likeliest)
    prepare_database(settings)
    await require_accounts(settings)


@contextmanager
def _tracing() -> Iterator[Tracing]:
    """Send traces if OTEL_* says where; only then import the SDK, which takes half a second."""
    wanted = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not wanted or is_off or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        yield Tracing()
        return
    try:
        from app.telemetry import from_environment  # noqa: PLC0415 - an extra, and heavy
    except ImportError:
        logger.warning("tracing.extra_missing", install="runcomfy-gateway[otel]")
        yield Tracing()
        return
    tracing = from_environment()
    try:
        yield tracing
    finally:
        tracing.close()


def _public_url(settings: Settings, listener: socket.socket) -> str:
    if settings.public_url is not None:
        return settings.public_url
    host = listener.getsockname()[0]
    if not ipaddress.ip_address(host).is_loopback:
        raise ConfigurationError(
            f"GATEWAY_PUBLIC_URL is not set, and links cannot be made from {host}: set it to the"
            " address that clients use, for example https://gateway.example."
        )
    return url_of(listener)


@asynccontextmanager
async def _opened(
    settings: Settings, public_url: str, *, closing: asyncio.Event, tracing: Tracing | None = None
) -> AsyncIterator[FastAPI]:
    """Open the app around the server, not inside it.

    By itself uvicorn exits with 3 if a start fails, and serves on if the background has crashed.
    """
    app = create_app(
        settings, public_url=public_url, alone=settings.is_sqlite, closing=closing, tracing=tracing
    )
    logger.info("gateway.starting", url=public_url)
    async with app.router.lifespan_context(app):
        yield app
