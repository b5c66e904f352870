"""The ASGI application: routes around services, workers beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api import (
    admin,
    client_tokens,
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
    webhooks,
)
from app.api.cors import Cors
from app.api.middleware import Edge
from app.api.openapi import DescribedApp
from app.bootstrap import open_parts
from app.core.clock import Clock, SystemClock
from app.settings import Settings


def create_app(
    settings: Settings,
    *,
    public_url: str,
    clock: Clock | None = None,
    background: bool = True,
    alone: bool = False,
    closing: asyncio.Event | None = None,
) -> FastAPI:
    """Make the gateway; nothing is opened before its lifespan begins.

    Without `background` jobs are accepted and not worked on. `alone` promises that no other process
    works on this database, so that what a dead one held is free at once. `closing` is set by the
    server as soon as it is told to stop, while requests are still open: workers claim no more, and
    every stream and wait ends by it (`services.closing`); at the lifespan's end it is set anyway.
    """
    clock = clock or SystemClock()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop = closing or asyncio.Event()
        async with open_parts(settings, clock=clock, public_url=public_url, closing=stop) as parts:
            app.state.parts = parts
            app.state.services = parts.services
            if alone:
                await parts.free_leases()
            async with asyncio.TaskGroup() as group:
                group.create_task(parts.hub.run())
                if background:
                    group.create_task(parts.workers.run(stop))
                    if parts.issuer_keys is not None:
                        group.create_task(parts.issuer_keys.run(stop))
                yield
                stop.set()

    app = DescribedApp(
        title="runcomfy-gateway",
        version="0.1.0",
        summary="Keys, limits and durable jobs in front of RunComfy's Model API.",
        lifespan=lifespan,
        # The pages load their scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
    )
    routers = [
        room.router
        for room in (
            *(jobs, events, outputs, files, models, requests, webhooks),
            *(me, client_tokens, health, pages),
        )
    ] + admin.routers
    problems.install(app, routers=routers)
    for router in routers:
        app.include_router(router)
    pages.mount(app)
    app.add_middleware(
        Edge,
        clock=clock,
        max_body_bytes=settings.max_body_bytes,
        cors=Cors(settings.cors_origins),
    )
    return app
