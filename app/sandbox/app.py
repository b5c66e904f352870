"""The sandbox as an ASGI app: RunComfy's routes, the files it makes, a look behind the scenes."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.core.clock import Clock
from app.sandbox.catalogue import Catalogue
from app.sandbox.config import SandboxConfig
from app.sandbox.files import FileCalls
from app.sandbox.jobs import JobCalls
from app.sandbox.models import ModelCalls
from app.sandbox.refusals import Refusal
from app.sandbox.store import Store
from app.sandbox.studio import Studio
from app.sandbox.witness import Witness

Endpoint = Callable[[Request], Awaitable[Response]]


def assemble(config: SandboxConfig, *, clock: Clock) -> Starlette:
    store = Store(config.directory / "requests.sqlite")
    catalogue = Catalogue.bundled()
    jobs = JobCalls(config=config, store=store, catalogue=catalogue, clock=clock)
    files = FileCalls(
        store=store,
        catalogue=catalogue,
        studio=Studio(config.directory / "outputs"),
        clock=clock,
        speed=config.speed,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            store.close()

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return error.answer(clock.now())

    async def refuse_route(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Refusal(error.status_code * 1000, error.detail).answer(clock.now())

    app = Starlette(
        routes=[
            *_api(config.token, jobs, ModelCalls(catalogue)),
            Route("/outputs/{request_id}/{name}", files.output),
            Route("/samples/first-frame.jpg", files.sample),
            Route("/sandbox/requests", Witness(store).requests),
        ],
        exception_handlers={Refusal: refuse, HTTPException: refuse_route},
        lifespan=lifespan,
    )
    # RunComfy's clients refuse redirects, so there must be none to refuse.
    app.router.redirect_slashes = False
    return app


def _api(token: str | None, jobs: JobCalls, models: ModelCalls) -> list[Route]:
    guard = _guard(token)
    # The look-up by id would match "categories" too, which therefore comes first.
    return [
        Route("/v1/models", guard(models.search)),
        Route("/v1/models/categories", guard(models.categories)),
        Route("/v1/models/{model_id:path}", guard(models.one)),
        Route("/v1/models/{model_id:path}", guard(jobs.submit), methods=["POST"]),
        Route("/v1/requests/{request_id}/status", guard(jobs.status)),
        Route("/v1/requests/{request_id}/result", guard(jobs.result)),
        Route("/v1/requests/{request_id}/cancel", guard(jobs.cancel), methods=["POST"]),
    ]


def _guard(token: str | None) -> Callable[[Endpoint], Endpoint]:
    """Let only calls with the token through; without one, any bearer token will do."""

    def guard(endpoint: Endpoint) -> Endpoint:
        async def guarded(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not given:
                raise Refusal(400004, "the Authorization header must be a bearer token")
            if token is not None and not secrets.compare_digest(given.encode(), token.encode()):
                raise Refusal(400004)
            return await endpoint(request)

        return guarded

    return guard
