"""Downloads that stop midway, on real sockets."""

import asyncio
import logging
import socket
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from app.api import protocol
from app.core.clock import SystemClock
from tests.support.served import Served, serving
from tests.support.storages import files_below

# More than the sockets of both sides take in.
FILE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\x90\0\0\1\x90\x08\2\0\0\0" + bytes(24 * 2**20)


async def test_who_takes_nothing_of_an_answer_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_STALLED_FOR_S", 4)
    async with serving(
        f"sqlite:///{tmp_path}/gateway.db", tmp_path, storage_url=f"file://{tmp_path}/kept"
    ) as served:
        path = await _uploaded(served)
        with await _asking(served, path) as stalled, await _asking(served, path) as steady:
            assert await _taken(steady, breath=timedelta(seconds=1.5)) > len(FILE), "in 6 seconds"
            assert await _taken(stalled) < len(FILE)


async def test_a_file_that_is_gone_midway_cuts_the_connection_and_pages_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    kept = tmp_path / "kept"
    async with serving(
        f"sqlite:///{tmp_path}/gateway.db", tmp_path, storage_url=f"file://{kept}"
    ) as served:
        path = await _uploaded(served)
        with await _asking(served, path) as reading, capture_logs() as logs:
            async with asyncio.timeout(60):
                assert await asyncio.get_running_loop().sock_recv(reading, 1)
            for file in files_below(kept):
                file.unlink()
            assert 0 < await _taken(reading) < len(FILE)
    told = [(each["log_level"], each["event"]) for each in logs]
    assert [each for each in told if each[0] != "info"] == [("warning", "download.broken_off")]
    assert caplog.records == []


async def _uploaded(served: Served) -> str:
    async with served.client() as http:
        made = await http.post("/v1/files", content=FILE, headers={"Content-Type": "image/png"})
    assert made.status_code == 201, made.text
    parts = urlsplit(made.json()["urls"]["content"])
    return f"{parts.path}?{parts.query}"


async def _asking(served: Served, path: str) -> socket.socket:
    at = urlsplit(served.url)
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    asking.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(asking, (at.hostname, at.port))
    await loop.sock_sendall(
        asking, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    return asking


async def _taken(asking: socket.socket, *, breath: timedelta = timedelta()) -> int:
    """Read to the end, with a breath after each 6 MiB, and give how many bytes came."""
    taken = breaths = 0
    async with asyncio.timeout(60):
        while chunk := await asyncio.get_running_loop().sock_recv(asking, 2**20):
            taken += len(chunk)
            if taken // (6 * 2**20) > breaths:
                breaths += 1
                await SystemClock().sleep(breath)
    return taken
