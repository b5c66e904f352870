"""What every test may ask for: a database of its own, and a network that ends at this machine."""

import asyncio
import gc
import ipaddress
import logging
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

from app.core.clock import ManualClock
from app.core.logging import configure_logging
from tests.support.commands import Command, commands
from tests.support.compiled import compile_once
from tests.support.databases import Databases, SqliteDatabases, postgres_databases
from tests.support.gateway import Gateway, Sandbox, running, sandboxed
from tests.support.memory import memory
from tests.support.postgres import running_postgres

_LONG = {"stream", "pages", "examples"}  # whole processes, browsers and packages
_POSTGRES_URL = pytest.StashKey[str]()

# Hypothesis itself picks "ci" where the CI variable is set: the same examples on every run.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50
)
settings.register_profile(
    "ci",
    settings.get_profile("ci"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100,
    stateful_step_count=40,
)
# For a night, or for one file: `make token-sequences`.
settings.register_profile("long", settings.get_profile("ci"), max_examples=10_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=["sqlite", "postgres", "both"],
        default="both",
        help="what the tests that need a database run on (default: both, one after the other)",
    )


def pytest_configure() -> None:
    configure_logging(format="console", level="info")
    sys.addaudithook(_refuse_outside_network)
    compile_once()
    # httpx looks for it at every request of an ASGITransport, for 0.2 ms each where there is none.
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
    gc.disable()  # until all is collected: next to nothing of that is ever let go


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Let all of xdist's workers share one server, run by the process that starts them."""
    config = node.config
    if config.getoption("database") == "sqlite":
        return
    if _POSTGRES_URL not in config.stash:
        server = ExitStack()
        config.stash[_POSTGRES_URL] = server.enter_context(running_postgres())
        config.add_cleanup(server.close)
    node.workerinput["postgres_url"] = config.stash[_POSTGRES_URL]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "databases" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("database")
        engines = ["sqlite", "postgres"] if chosen == "both" else [chosen]
        if metafunc.definition.get_closest_marker("sqlite_alone"):
            engines = ["sqlite"]
        elif chosen == "both" and metafunc.definition.get_closest_marker("either_database"):
            engines = [engines[crc32(metafunc.definition.nodeid.encode()) % 2]]
        metafunc.parametrize("databases", engines, indirect=True)


class _Loop(asyncio.SelectorEventLoop):
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass over what a later, innocent test would be blamed for.

        An upload that is cut off while obstore waits for its next piece leaves a generator that
        CPython before 3.13 counts as running for ever; closing it, whenever it is collected, fails.
        """
        if "asynchronous generator is already running" not in str(context.get("exception")):
            super().call_exception_handler(context)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let none of xdist's workers meet last what takes longest, and keep all the others waiting.

    Each is given a stretch of the list, and steals from another's end when it has come through.
    """
    workerinput: dict[str, Any] = getattr(config, "workerinput", {})
    workers = workerinput.get("workercount", 1)
    long = [item for item in items if _LONG.intersection(item.path.parts)]
    short = [item for item in items if not _LONG.intersection(item.path.parts)]
    size = -(-len(short) // workers)
    items[:] = [
        item
        for n in range(workers)
        for item in _early(long[n::workers], short[n * size : (n + 1) * size])
    ]


def pytest_collection_finish() -> None:
    """Spare Python's own collector what stays to the end, as a gateway does at its start.

    Not even collecting once before: what collection leaves behind takes less than to look for it.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def _early(long: list[pytest.Item], short: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Spread the long ones, which mostly wait, among the first half of the others."""
    between = len(short) // (2 * len(long)) if long else 0
    for n, item in enumerate(long):
        yield item
        yield from short[n * between : (n + 1) * between]
    yield from short[len(long) * between :]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": _Loop}


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """Yield the URL of a migrated database without data; the test runs once on each engine."""
    with databases.fresh() as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """Yield the URL of a database without a schema, for tests of the migrations themselves."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def databases(request: pytest.FixtureRequest) -> Databases:
    """Hand out databases on one engine, for tests that need more than one."""
    made: Databases = request.getfixturevalue(f"_{request.param}_databases")
    return made


@pytest.fixture(scope="session")
def _sqlite_databases() -> Iterator[Databases]:
    with TemporaryDirectory(prefix="sqlite-", dir=memory()) as name:
        yield SqliteDatabases(Path(name))


@pytest.fixture(scope="session")
def _postgres_databases(postgres_url: str, worker_id: str) -> Iterator[Databases]:
    with postgres_databases(postgres_url, prefix=worker_id) as databases:
        yield databases


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the server's URL: the workers' common one, or one that starts when first wanted."""
    workerinput: dict[str, Any] | None = getattr(request.config, "workerinput", None)
    if workerinput is not None:
        yield workerinput["postgres_url"]
    else:
        with running_postgres() as url:
            yield url


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Let a test set logging up as a process does, without leaving it to the tests that follow."""
    handlers, level = logging.root.handlers[:], logging.root.level
    configured = structlog.get_config()
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.configure(**configured)


@pytest.fixture
def command(
    own_logging: None,  # noqa: ARG001 - every command sets it up
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run commands in an empty folder with nothing set; in this process, which starts but once."""
    monkeypatch.chdir(tmp_path)
    return commands(monkeypatch, capsys)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def sandbox(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Sandbox]:
    async with sandboxed(tmp_path / "sandbox", clock=clock) as running_one:
        yield running_one


@pytest.fixture
async def gateway(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> AsyncIterator[Gateway]:
    """Open a whole gateway beside a sandbox, on either database; alice has a key."""
    async with running(database_url, sandbox=sandbox, clock=clock) as running_one:
        yield running_one


def _refuse_outside_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Fail whatever leaves this machine; a hook sees every socket, also in libraries."""
    if event not in ("socket.connect", "socket.sendto"):
        return
    used, address = arguments
    if used.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
        raise RuntimeError(f"a test reached for {address[0]}, which is not this machine")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
