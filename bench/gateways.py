"""Real gateways to measure: `gateway serve` with all it does, one user, one key, every limit on."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import create_engine, delete

from app.db.engine import parse_url
from app.db.migrate import upgrade
from app.db.models import JobRow
from bench.counted import counted
from bench.load import LOAD, ROOT, SYSTEM, cpu_s, on_core, request, resident_kb_in
from bench.peers import INPUT, Subject
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE, TOKEN
from tests.support.postgres import restartable_postgres
from tests.support.processes import Server

# High enough to refuse nothing, yet each is read, checked and written like any other.
_PLAN = {
    "submits_per_minute": 1_000_000,
    "jobs_per_day": 100_000_000,
    "jobs_per_month": 100_000_000,
    "output_seconds_per_day": 1_000_000_000,
    "spend_usd_per_month": 1_000_000_000,
    "pending_jobs": 100_000_000,
}
_PRICE = {"model": SEEDANCE, "base_price_usd": "0.01", "price_unit": "second"}
BODY = json.dumps({"model": SEEDANCE, "input": json.loads(INPUT)}).encode()


# What a gateway has in memory however it is written: the libraries that were given or chosen.
_LIBRARIES = (
    *("fastapi", "uvicorn", "uvloop", "httptools", "python_multipart"),
    *("httpx", "aiohttp", "sqlalchemy.ext.asyncio", "pydantic_settings"),
    *("structlog", "prometheus_client", "jsonschema_rs", "imagesize", "uuid_utils", "typer"),
)
_DRIVERS = {
    "SQLite": ("sqlalchemy.dialects.sqlite", "sqlite3"),
    "Postgres": ("sqlalchemy.dialects.postgresql", "psycopg"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    name: str
    server: Server
    database_url: str
    key: str
    counts: Path

    @property
    def pid(self) -> int:
        assert self.server.process is not None
        return self.server.process.pid

    def request(self, method: str, path: str, *, body: bytes = b"", prefer: str = "") -> bytes:
        return request(method, path, token=self.key, body=body, prefer=prefer)

    def submit(self) -> bytes:
        return self.request("POST", "/v1/jobs", body=BODY)

    async def pause(self, *, paused: bool) -> None:
        async with self.operator() as http:
            (await http.put("/v1/admin/dispatch", json={"paused": paused})).raise_for_status()

    async def job(self) -> str:
        async with httpx.AsyncClient(base_url=self.server.url) as http:
            answer = await http.post(
                "/v1/jobs", content=BODY, headers={"Authorization": f"Bearer {self.key}"}
            )
            job_id: str = answer.raise_for_status().json()["id"]
            return job_id

    async def subject(self) -> Subject:
        """Describe it as a peer is described, with a job to read."""
        return Subject(
            name=self.name,
            port=self.server.port,
            pid=self.pid,
            submit=self.submit(),
            accepts_with=202,
            read=self.request("GET", f"/v1/jobs/{await self.job()}"),
        )

    def empty(self) -> None:
        """Forget all jobs, so that each round begins with an empty queue."""
        engine = create_engine(parse_url(self.database_url))
        with engine.begin() as connection:
            connection.execute(delete(JobRow))
        engine.dispose()

    def statements(self) -> int:
        """Return how many statements it has sent to its database."""
        return counted(self.counts)

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    async def metric(self, sample: str) -> float:
        """Read one sample of /metrics, 0 while there is none."""
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{self.server.url}/metrics")).text
        found = [line for line in text.splitlines() if line.startswith(f"{sample} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    def operator(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        return httpx.AsyncClient(base_url=self.server.url, headers=headers)


def libraries_kb() -> Mapping[str, int]:
    """Return, by database, the resident memory of a Python that has only imported the libraries."""

    def measured(modules: Sequence[str]) -> int:
        code = f"import {', '.join(modules)}; print(open('/proc/self/status').read())"
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
        )
        return resident_kb_in(done.stdout)

    return {name: measured((*_LIBRARIES, *driver)) for name, driver in _DRIVERS.items()}


@contextmanager
def postgres() -> Iterator[str]:
    """Run a Postgres that keeps what it confirms, on the load's core."""
    durable = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    with on_core(LOAD), restartable_postgres(on_disk=True, **durable) as server:
        upgrade(server.url)
        yield server.url


@asynccontextmanager
async def gateway(
    folder: Path,
    *,
    name: str,
    upstream: str,
    database_url: str = "",
    **settings: str,
) -> AsyncIterator[Gateway]:
    """Run one on the core of the system under test, on SQLite unless another database is named."""
    database_url = database_url or f"sqlite:///{folder / 'gateway.db'}"
    counts = folder.with_name(f"{folder.name}.statements")
    environment = {
        "RUNCOMFY_API_TOKEN": TOKEN,
        "GATEWAY_UPSTREAM_URL": upstream,
        "GATEWAY_DATABASE_URL": database_url,
        "GATEWAY_SECRET_KEY": "0123456789abcdef" * 4,
        "GATEWAY_ADMIN_TOKEN": f"ops:{ADMIN_TOKEN}",
        "GATEWAY_INSPECT_MEDIA": "off",
        "GATEWAY_CATALOGUE_REFRESH_SECONDS": "0",
        "GATEWAY_MAX_STREAMS_PER_USER": "1000",
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    server = Server(
        ("-m", "bench.counted", str(counts), "serve"),
        folder,
        health="/healthz",
        environment=environment,
        command=Path(sys.executable),
    )
    upgrade(database_url)  # beforehand: a start that migrates would have Alembic in memory
    with on_core(SYSTEM):
        await server.start()
    try:
        await server.ready()
        yield Gateway(
            name=name,
            server=server,
            database_url=database_url,
            key=await _open_account(server),
            counts=counts,
        )
    finally:
        if server.process is not None:
            await server.kill()


async def _open_account(server: Server) -> str:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    limits = {name: {"limit": limit, "mode": "enforce"} for name, limit in _PLAN.items()}
    async with httpx.AsyncClient(base_url=f"{server.url}/v1/admin", headers=headers) as http:

        async def make(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
            answer = await http.request(method, path, json=body)
            assert answer.is_success, answer.text
            made: dict[str, Any] = answer.json()
            return made

        await make("PUT", "/prices", {"prices": [_PRICE]})
        plan = f"bench-{server.port}"
        user = f"user-{server.port}"
        await make("POST", "/plans", {"name": plan, "limits": limits})
        await make("POST", "/users", {"id": user, "plan": plan})
        key: str = (await make("POST", "/keys", {"user": user}))["key"]
        return key
