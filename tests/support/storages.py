"""Places to keep objects: a folder, and an S3 that runs in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer  # type: ignore[import-untyped]

BUCKET = "kept"


@contextmanager
def running_s3() -> Iterator[str]:
    """Serve S3 with one bucket on loopback; yield its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    # Its first call is slow: it imports what it needs.
    httpx.put(f"{address}/{BUCKET}", trust_env=False, timeout=60).raise_for_status()
    try:
        yield address
    finally:
        server.stop()


def point_at(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set what S3 clients read from the environment; return the storage's URL."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "id-of-a-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/some/where"


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
