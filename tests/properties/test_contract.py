"""The running gateway keeps to its OpenAPI document, whatever a client sends (schemathesis)."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
)

from app.sandbox import SandboxConfig, running_sandbox
from app.server import running_gateway
from app.settings import explicit_settings
from tests.support.databases import Databases
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE, TOKEN
from tests.support.keys import make_key

pytestmark = pytest.mark.either_database

DOCUMENT = json.loads(Path("openapi/openapi.json").read_text())
# With `default` in it the document would allow any status, and nothing would be checked.
for operations in DOCUMENT["paths"].values():
    for operation in operations.values():
        del operation["responses"]["default"]

# Bodies that are files: a few bytes of something will do.
for kind in ("image/*", "video/*"):
    schemathesis.openapi.media_type(kind, st.binary(max_size=64))

schema = schemathesis.openapi.from_dict(DOCUMENT)


# The other method there is no mistake: it looks for a job, or for a model, that is called so.
SHADOWED = {"/v1/jobs/validate", "/v1/models/categories"}

# As at RunComfy, and in most APIs, a query parameter that is not known means nothing there.
LENIENT = {"/v1/models", "/v1/requests/{request_id}/result", "/v1/admin/overview"}
# They say where a request ends: a wrong one makes it none, and no path has been read by then.
FRAMING = {"content-length", "transfer-encoding"}
# The document describes a stream as a whole; each of its events would be compared with that.
STREAM = "/v1/jobs/{job_id}/events"
PATIENCE_S = 90  # a wait of a minute may be drawn


@dataclass(frozen=True)
class Served:
    address: str
    key: str
    job_id: str


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Serve from a thread of its own, since schemathesis waits for each answer.

    On Postgres, which refuses more than SQLite; how requests meet either is tested beside this.
    """
    engine = "sqlite" if request.config.getoption("database") == "sqlite" else "postgres"
    databases: Databases = request.getfixturevalue(f"_{engine}_databases")
    folder = tmp_path_factory.mktemp("contract")
    with databases.fresh() as database_url, _serving(database_url, folder) as served:
        yield served


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Keep a connection, and look for no proxies: anew for each call, that is a quarter of all.

    Headers of the session's own would go before those that are drawn.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.headers.clear()
        yield session


@schema.exclude(path="/v1/events").parametrize()  # it has no end
# The gateway's thread draws the jitter of a poll while Hypothesis draws the next request.
@pytest.mark.filterwarnings("ignore:Do not use the .random. module")
@settings(
    max_examples=settings().max_examples // 25,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_every_answer_is_as_documented(
    served: Served, session: requests.Session, case: Case
) -> None:
    # Clients fold dots away before they send: that would be the answer of another path.
    segments = "/".join(str(each) for each in case.path_parameters.values()).split("/")
    assume(not {".", ".."} & set(segments))
    assume(not FRAMING & {name.lower() for name in case.headers})
    for name in ("job_id", "request_id"):
        if len(case.path_parameters.get(name, "odd")) % 2 == 0:
            case.path_parameters[name] = served.job_id
    # What a model's own schema refuses, the document of the gateway cannot tell.
    excluded = [positive_data_acceptance]
    if case.path.startswith("/v1/admin"):
        # Calls without the token are answered 429 once there have been too many.
        excluded += [ignored_auth, missing_required_header]
    if case.path == STREAM:
        excluded.append(response_schema_conformance)
    if case.path in LENIENT or _may_be_right_as_text(case.query):
        excluded.append(negative_data_rejection)
    if case.path in SHADOWED:
        excluded.append(allow_header_conformance)
    case.call_and_validate(
        base_url=served.address,
        session=session,
        headers={"Authorization": f"Bearer {_credential(case, served)}"},
        timeout=PATIENCE_S,
        excluded_checks=excluded,
    )


def _may_be_right_as_text(query: Mapping[str, Any]) -> bool:
    """Tell a query with faults of types: on the wire no list is an empty one, and `null` a word."""
    return any(
        name.startswith("metadata[") or not isinstance(each, str) for name, each in query.items()
    )


def _credential(case: Case, served: Served) -> str:
    return ADMIN_TOKEN if case.path.startswith("/v1/admin") else served.key


@contextmanager
def _serving(database_url: str, folder: Path) -> Iterator[Served]:
    loop = asyncio.new_event_loop()
    served: Future[Served] = Future()
    stop = asyncio.Event()

    async def serve() -> None:
        config = SandboxConfig(directory=folder / "sandbox", token=TOKEN)
        async with running_sandbox(config) as upstream_url:
            settings = explicit_settings(
                api_token=TOKEN,
                upstream_url=upstream_url,
                database_url=database_url,
                secret_key="0123456789abcdef" * 4,
                admin_token=ADMIN_TOKEN,
                inspect_media="off",
            )
            async with running_gateway(settings) as address:
                served.set_result(await _prepare(address, database_url))
                await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        yield served.result(timeout=PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _prepare(address: str, database_url: str) -> Served:
    key = await make_key(database_url)
    body = {
        "model": SEEDANCE,
        "input": {
            "prompt": "a walk sandbox:instant",
            "first_frame_image_url": "https://example.com/a.png",
        },
    }
    async with httpx.AsyncClient(
        base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S
    ) as http:
        job = (await http.post("/v1/jobs", json=body)).json()
    return Served(address, key, job["id"])
