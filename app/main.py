"""The ASGI application: routes around the services, workers beside them."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from app.api import (
    admin,
    client_tokens,
    document,
    events,
    files,
    health,
    jobs,
    me,
    models,
    outputs,
    pages,
    problems,
    requests,
    usage,
    webhook_secret,
    webhooks,
)
from app.api import metrics as exposition
from app.api.cors import Cors
from app.api.middleware import PROBES, EdgeMiddleware
from app.bootstrap.parts import Parts, open_parts
from app.core.clock import Clock, SystemClock
from app.core.metrics import Metrics
from app.core.tracing import Tracing
from app.settings import Settings

_VERSION = metadata.version("runcomfy-gateway")
_ROOMS = (
    *(jobs, events, outputs, files, models, requests, webhooks, webhook_secret),
    *(me, usage, client_tokens, health, exposition, pages, document),
)
_ROUTERS = [*(room.router for room in _ROOMS), *admin.routers]
_ROUTES = [route for router in _ROUTERS for route in router.routes]


def create_app(
    settings: Settings,
    *,
    public_url: str,
    clock: Clock | None = None,
    background: bool = True,
    alone: bool = False,
    closing: asyncio.Event | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Make the gateway; nothing is opened before its lifespan begins.

    Without `background`, jobs are accepted but not worked on. `alone` promises that no other
    process works on this database, so the leases of a dead one can end at once. The server sets
    `closing` as soon as it is told to stop, while requests are still open: workers then claim no
    more, and streams and waits end (`services.closing`). The lifespan's end sets it in any case.
    """
    clock = clock or SystemClock()
    metrics, tracing = Metrics(), tracing or Tracing()
    metrics.is_serving.set(1)
    stop = closing or asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_parts(
            settings,
            clock=clock,
            metrics=metrics,
            tracing=tracing,
            public_url=public_url,
            closing=stop,
        ) as parts:
            app.state.parts = parts
            app.state.services = parts.services
            if alone:
                await parts.free_leases()
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(metrics.watch_loop(clock=clock))
                group.create_task(parts.services.hub.run())
                if background:
                    group.create_task(parts.workers.run(stop))
                    if parts.issuer_keys is not None:
                        group.create_task(parts.issuer_keys.run(stop))
                yield
                stop.set()
                watching.cancel()

    app = FastAPI(
        title="runcomfy-gateway",
        version=_VERSION,
        summary="Keys, limits and durable jobs in front of RunComfy's Model API.",
        lifespan=lifespan,
        # FastAPI's own pages load scripts from elsewhere; `api.document` serves what they show.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_telemetry(tracing),
        separate_input_output_schemas=False,
        routes=[*_ROUTES],
    )
    pages.mount(app)
    _guard(app, settings, origins=settings.cors_origins, clock=clock, metrics=metrics, closing=stop)
    return app


def _telemetry(tracing: Tracing) -> TelemetryConfig:
    """Make a span for each request, and nothing else: errors quote what was sent.

    Left to itself, FastAPI would also export whatever its own variables ask for, unfiltered.
    """
    return {
        "auto_configure": False,
        "tracing": tracing.provider is not None,
        "tracer_provider": tracing.provider,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "exclude": lambda scope: scope.get("path") in PROBES,
    }


def create_probe(settings: Settings, parts: Parts, *, metrics: Metrics, clock: Clock) -> FastAPI:
    """Make the app of a worker, which has no API: only health and metrics."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        routes=[*health.router.routes, *exposition.router.routes],
    )
    app.state.services = parts.services
    closing = parts.services.closing
    _guard(app, settings, origins=(), clock=clock, metrics=metrics, closing=closing)
    return app


def _guard(
    app: FastAPI,
    settings: Settings,
    *,
    origins: Collection[str],
    clock: Clock,
    metrics: Metrics,
    closing: asyncio.Event,
) -> None:
    """Add the middleware that every request passes, and the handlers for every error."""
    problems.install(app, metrics=metrics)
    app.add_middleware(
        EdgeMiddleware,
        clock=clock,
        max_body_bytes=settings.max_body_bytes,
        cors=Cors(origins),
        metrics=metrics,
        closing=closing,
    )
