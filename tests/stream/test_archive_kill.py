"""A process that is killed while it copies an output leaves no half file, and the copy is made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx

from app.core.clock import SystemClock
from tests.support.gateway import SEEDANCE
from tests.support.keys import make_key
from tests.support.processes import gateway_process
from tests.support.storages import files_below
from tests.support.wire_server import Line, answer, wire_server

FILM = b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(range(256)) * 2**16
_LOOK = timedelta(milliseconds=100)
_WITHIN_S = 150


async def test_kill_9_halfway_through_a_copy(tmp_path: Path) -> None:
    halfway = asyncio.Event()
    stalls = True

    async def upstream(line: Line) -> None:
        """Be RunComfy for one job that is done at once; its file stalls the first time."""
        while True:
            asked = await line.request()
            if asked.target == "/film.mp4":
                whole = answer(raw=FILM, Content_Type="video/mp4")
                if stalls:
                    await line.send(whole[: len(whole) // 2])
                    halfway.set()
                    await line.wait_for_the_other_end()
                    return
                await line.send(whole)
            elif asked.method == "POST":
                await line.send(answer(200, {"request_id": "r1"}))
            elif asked.target.endswith("/status"):
                await line.send(answer(200, {"request_id": "r1", "status": "completed"}))
            else:
                host = asked.headers["host"]
                output = {"video": f"http://{host}/film.mp4"}
                result = {"request_id": "r1", "status": "succeeded", "output": output}
                await line.send(answer(200, result))

    kept = tmp_path / "kept"
    async with (
        wire_server(upstream) as runcomfy,
        gateway_process(
            tmp_path / "gateway", upstream_url=runcomfy.url, GATEWAY_STORAGE_URL=f"file://{kept}"
        ) as gateway,
    ):
        await gateway.ready()
        async with _alice(f"sqlite:///{gateway.folder / 'gateway.db'}", gateway.url) as http:
            body = {"prompt": "a", "first_frame_image_url": "https://example.com/a.png"}
            made = await http.post("/v1/jobs", json={"model": SEEDANCE, "input": body})
            path = f"/v1/jobs/{made.json()['id']}/outputs/0"
            async with asyncio.timeout(_WITHIN_S):
                await halfway.wait()
                while not files_below(kept):  # the draft, once a first part is written
                    await SystemClock().sleep(_LOOK)
            await gateway.kill()
            assert all("#" in file.name for file in files_below(kept)), "half a copy is visible"
            stalls = False
            await gateway.start()
            await gateway.ready()
            async with asyncio.timeout(_WITHIN_S):
                while not [file for file in files_below(kept) if "#" not in file.name]:
                    await SystemClock().sleep(_LOOK)
            assert (await http.get(path)).content == FILM
            assert (await http.delete(path.rpartition("/outputs")[0])).status_code == 204
        assert files_below(kept) == []


@asynccontextmanager
async def _alice(database_url: str, url: str) -> AsyncIterator[httpx.AsyncClient]:
    key = await make_key(database_url)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        yield http
