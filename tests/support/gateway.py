"""A whole gateway in the test's event loop: real database, real sandbox on a real socket."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from app.auth.directory.keys import KeyDirectory
from app.bootstrap.workers import Workers
from app.core.clock import ManualClock
from app.core.tracing import Tracing
from app.main import create_app
from app.sandbox import SandboxConfig, running_sandbox
from app.settings import explicit_settings

SEEDANCE = "bytedance/seedance-1-0/pro/image-to-video"
PUBLIC_URL = "https://gateway.test"
TOKEN = "upstream-token-4f2a"
ADMIN_TOKEN = "operators-only-" + "7" * 32
_TESTS = "tests"


@dataclass
class Sandbox:
    """The upstream of a test; `http` speaks to it as a bystander would."""

    url: str
    http: httpx.AsyncClient

    async def submits(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what it received with this job's prompt, accepted or not."""
        seen = (await self.http.get("/sandbox/requests")).json()["requests"]
        prompt = job["input"]["prompt"]
        return [request for request in seen if (request["input"] or {}).get("prompt") == prompt]

    async def calls(self, request_id: str) -> dict[str, int]:
        """Count the status, result and cancel calls for a request."""
        seen = (await self.http.get("/sandbox/requests")).json()["calls"]
        counted: dict[str, int] = seen.get(request_id, {})
        return counted


@dataclass
class Gateway:
    """`http` is alice's client; time stands still unless a test moves it."""

    app: FastAPI
    http: httpx.AsyncClient
    clock: ManualClock
    sandbox: Sandbox
    workers: Workers
    keys: KeyDirectory

    @staticmethod
    def body(words: str = "", **fields: Any) -> dict[str, Any]:
        """Make a request with a prompt of its own, and magic words for the sandbox."""
        prompt = f"take {next(_TAKES)} {words}".strip()
        picture = "https://example.com/a.png"
        return {
            "model": SEEDANCE,
            "input": {"prompt": prompt, "first_frame_image_url": picture, "duration": 2} | fields,
        }

    async def submit(self, words: str = "", **fields: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/jobs", json=self.body(words, **fields))
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    async def read(self, job: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/jobs/{job['id']}")
        assert answer.status_code == 200, answer.text
        read: dict[str, Any] = answer.json()
        return read

    async def dispatch(self) -> int:
        return await self.workers.dispatcher.loop.run_once()

    async def poll(self) -> int:
        return await self.workers.poller.loop.run_once()

    async def deliver(self) -> int:
        return await self.workers.deliverer.loop.run_once()

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    async def follow(
        self,
        job: dict[str, Any],
        until: Callable[[dict[str, Any]], bool] = lambda job: job["finished_at"] is not None,
        *,
        seconds: int = 300,
    ) -> dict[str, Any]:
        """Let a second pass and the workers work, again and again, until the job looks right."""
        for _ in range(seconds):
            await self.dispatch()
            await self.poll()
            job = await self.read(job)
            if until(job):
                return job
            self.wait(1)
        raise AssertionError(f"after {seconds} s the job is {job}")

    async def client_of(self, user: str) -> httpx.AsyncClient:
        """Make a user with a key; the client needs no closing."""
        return self.client_with(await _key(self.keys, user))

    async def audited(self) -> list[dict[str, Any]]:
        """Return the audit's entries, newest first, without those of the keys that tests make."""
        entries = (await self.admin.get("/v1/admin/audit")).json()["data"]
        return [entry for entry in entries if entry["actor"] != _TESTS]

    def client_with(self, token: str) -> httpx.AsyncClient:
        return _client(self.app, key=token)

    @property
    def admin(self) -> httpx.AsyncClient:
        """Return an operator's client; it needs no closing."""
        return self.client_with(ADMIN_TOKEN)


_TAKES = itertools.count(1)


@asynccontextmanager
async def running(
    database_url: str,
    *,
    sandbox: Sandbox,
    clock: ManualClock,
    tracing: Tracing | None = None,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """Open a gateway on a migrated database; it works only when the test tells it to."""
    app = create_app(
        explicit_settings(
            upstream_url=sandbox.url,
            database_url=database_url,
            # Tests only name pictures, except where files are what is tested.
            **{
                "secret_key": "0123456789abcdef" * 4,
                "api_token": TOKEN,
                "admin_token": f"ops:{ADMIN_TOKEN}",
                "inspect_media": "off",
                **settings,
            },
        ),
        public_url=settings.get("public_url", PUBLIC_URL),
        clock=clock,
        background=False,
        tracing=tracing,
    )
    async with app.router.lifespan_context(app):
        parts = app.state.parts
        keys = parts.services.keys
        await parts.workers.heartbeat.run_once()  # its workers stand by
        async with _client(app, key=await _key(keys, "alice")) as http:
            yield Gateway(
                app=app,
                http=http,
                clock=clock,
                sandbox=sandbox,
                workers=parts.workers,
                keys=keys,
            )


@asynccontextmanager
async def sandboxed(folder: Path, *, clock: ManualClock) -> AsyncIterator[Sandbox]:
    config = SandboxConfig(directory=folder, token=TOKEN)
    async with (
        running_sandbox(config, clock=clock) as url,
        # Reading certificates, which nothing here needs, takes longer than starting the sandbox.
        httpx.AsyncClient(base_url=url, verify=False, timeout=60) as http,
    ):
        yield Sandbox(url=url, http=http)


async def _key(keys: KeyDirectory, user: str) -> str:
    made = await keys.create(user, {"name": "test"}, actor=_TESTS, make_user=True)
    return str(made.credential)


def _client(app: FastAPI, *, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url=PUBLIC_URL,
        headers={"Authorization": f"Bearer {key}"},
    )
