"""100 downloads of 200 MB at once: how much memory a gateway takes for them.

    .venv/bin/python bench/outputs.py [--downloads 100] [--megabytes 200] [--archived]

A stub upstream holds one sparse file; clients read all of it, at their own pace. What is printed is
the gateway process's resident memory before, at its highest, and after.
"""

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.core.clock import SystemClock
from bench.load import resident_kb
from tests.support.gateway import SEEDANCE
from tests.support.processes import Server, gateway_process, run

PIECE = bytes(2**16)


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    """Play RunComfy for one job that is done at once."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *lines = head.decode().split("\r\n")
            headers = dict(each.lower().split(": ", 1) for each in lines if each)
            await reader.readexactly(int(headers.get("content-length", 0)))
            target = line.split(" ")[1]
            if target == "/film.mp4":
                film = f"Content-Length: {size}\r\nContent-Type: video/mp4\r\n\r\n"
                writer.write(f"HTTP/1.1 200 OK\r\n{film}".encode())
                for _ in range(size // len(PIECE)):
                    writer.write(PIECE)
                    await writer.drain()
                continue
            status = "completed" if target.endswith("/status") else "succeeded"
            output = {"video": f"http://{headers['host']}/film.mp4"}
            body = json.dumps({"request_id": "r1", "status": status, "output": output})
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def resident_mb(gateway: Server) -> float:
    assert gateway.process is not None
    return resident_kb(gateway.process.pid) / 1024


async def download(http: httpx.AsyncClient, path: str, size: int) -> None:
    received = 0
    async with http.stream("GET", path) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            received += len(chunk)
    assert received == size, received


async def measure(downloads: int, megabytes: int, *, archived: bool) -> None:
    size = megabytes * 2**20
    serving = await asyncio.start_server(lambda r, w: upstream(r, w, size), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        async with gateway_process(Path(folder) / "gateway", upstream_url=url) as gateway:
            await gateway.ready()
            await gateway.stop()
            gateway.environment |= {"GATEWAY_INSPECT_MEDIA": "off"}
            if archived:
                gateway.environment |= {"GATEWAY_STORAGE_URL": f"file://{folder}/kept"}
            await gateway.start()
            await gateway.ready()
            _, key, _ = await run(gateway, "keys", "create", "--user", "bench")
            await _downloads(gateway, key.strip(), downloads, size, archived=archived)
    serving.close()


async def _downloads(
    gateway: Server, key: str, downloads: int, size: int, *, archived: bool
) -> None:
    async with httpx.AsyncClient(
        base_url=gateway.url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=None,
        limits=httpx.Limits(max_connections=downloads + 1),
    ) as http:
        body = {"prompt": "a", "first_frame_image_url": "https://example.com/a.png"}
        made = await http.post("/v1/jobs", json={"model": SEEDANCE, "input": body})
        path = made.raise_for_status().headers["Location"]
        is_done = False
        while not is_done:
            await SystemClock().sleep(timedelta(seconds=0.2))
            done = (await http.get(path)).json()["status"] == "completed"
            is_done = done and (not archived or _is_archived(gateway))
        before = highest = resident_mb(gateway)
        began = SystemClock().monotonic()
        reading = [
            asyncio.ensure_future(download(http, f"{path}/outputs/0", size))
            for _ in range(downloads)
        ]
        while not all(each.done() for each in reading):
            highest = max(highest, resident_mb(gateway))
            await asyncio.wait(reading, timeout=0.2)
        await asyncio.gather(*reading)
        took = SystemClock().monotonic() - began
        print(
            f"{downloads} x {size >> 20} MB {'from the copy' if archived else 'from upstream'}:"
            f" {before:.0f} MB before, {highest:.0f} MB at most,"
            f" {resident_mb(gateway):.0f} MB after; {downloads * (size >> 20) / took:.0f} MB/s"
        )


def _is_archived(gateway: Server) -> bool:
    with sqlite3.connect(gateway.folder / "gateway.db") as database:
        return bool(database.execute("SELECT 1 FROM outputs WHERE state = 'archived'").fetchone())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--downloads", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--archived", action="store_true")
    asked = parser.parse_args()
    asyncio.run(measure(asked.downloads, asked.megabytes, archived=asked.archived))
