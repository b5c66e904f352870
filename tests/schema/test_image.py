"""What the Dockerfile makes, made by its own steps: whole, compiled, and never written to."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.processes import Server

ROOT = Path(__file__).parents[2]


async def test_what_the_dockerfile_installs_is_whole_and_runs_without_a_write(
    tmp_path: Path,
) -> None:
    # One test: to install it is most of the work, and two might be two workers'.
    steps = ROOT / "deploy" / "image_steps.py"
    installing = await asyncio.create_subprocess_exec(
        sys.executable, steps, tmp_path / "image", "--linked", umask=0o077
    )
    assert await installing.wait() == 0
    installed = tmp_path / "image" / "opt" / "gateway"
    (package,) = installed.glob("lib/python*/site-packages/app")
    assert_whole(package)
    before = snapshot(installed)
    await assert_serves(installed, folder=tmp_path / "data")
    assert snapshot(installed) == before


def test_a_folder_that_is_there_already_is_found_where_one_stands(tmp_path: Path) -> None:
    (tmp_path / "0.2.0").mkdir()
    installing = subprocess.run(
        [ROOT / "deploy" / "install.sh", "0.2.0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": "false"},  # should it go on
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert installing.returncode == 1
    assert installing.stderr == f"{tmp_path}/0.2.0 is there already: choose a new one\n"


def test_its_versions_and_hashes_are_those_that_are_tested() -> None:
    """The step that the test above leaves out is the one that made this environment."""
    tested = locked(ROOT / "requirements" / "dev.txt")
    for name in ("prod", "build"):
        wanted = locked(ROOT / "requirements" / f"{name}.txt")
        assert len(wanted) > 5
        assert wanted <= tested


def assert_whole(package: Path) -> None:
    """Let it have all files of the clone, bytecode of each module, and nobody shut out."""
    assert all(path.stat().st_mode & stat.S_IROTH for path in package.rglob("*"))
    bundled = package / "_bundled"
    assert files(bundled / "migrations") == files(ROOT / "migrations")
    assert files(bundled / "models") == files(ROOT / "openapi" / "models")
    document = (ROOT / "openapi" / "openapi.json").read_bytes()
    assert (bundled / "openapi.json").read_bytes() == document
    mine = {path for path in files(package) if not path.startswith("_bundled/")}
    assert mine == files(ROOT / "app")
    assert "web/vendor/tabler.min.css" in mine
    for source in package.rglob("*.py"):
        assert list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")), source


async def assert_serves(installed: Path, *, folder: Path) -> None:
    server = Server(
        ("serve",),
        folder,
        health="/healthz",
        environment={
            "RUNCOMFY_API_TOKEN": "a-token-of-a-test",
            "GATEWAY_UPSTREAM_URL": "http://127.0.0.1:9",
        },
        command=installed / "bin" / "gateway",
    )
    assert await healthcheck(installed, f"{server.url}/healthz") == (1, "no answer")
    await server.start()
    try:
        await server.ready()
        assert await healthcheck(installed, f"{server.url}/healthz") == (0, "")
        assert await healthcheck(installed, f"{server.url}/nowhere") == (1, "404")
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            assert "<html" in (await http.get("/")).text
            ready = (await http.get("/readyz")).json()
        assert ready.get("failed", "") != "migrations"
    finally:
        await server.stop(signal.SIGTERM)


def locked(requirements: Path) -> set[str]:
    """Give each requirement with its hashes."""
    return set(requirements.read_text().replace("\\\n", "").splitlines())


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in found if path.suffix != ".pyc"}


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


async def healthcheck(installed: Path, url: str) -> tuple[int | None, str]:
    """Return the exit code, and what was said up to the first colon."""
    process = await asyncio.create_subprocess_exec(
        installed / "bin" / "gateway-healthcheck", url, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    return process.returncode, said.decode().partition(":")[0]
