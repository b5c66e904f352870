"""Clients written for RunComfy, each looping in its own way, against a gateway on a real socket."""

import asyncio
import json
import math
import re
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.clock import SystemClock
from tests.support.gateway import SEEDANCE
from tests.support.served import Served, serving

INPUT = {
    "prompt": "a walk",
    "first_frame_image_url": "https://example.com/a.png",
    "duration": 2,
}
SEEDREAM = "bytedance/seedream-5.0-pro/image-to-image"
PATIENCE_S = 200
SPEED = 40
_PAUSE = timedelta(seconds=2 / SPEED)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with (
        serving(f"sqlite:///{tmp_path}/gateway.db", tmp_path, speed=SPEED) as served,
        asyncio.timeout(PATIENCE_S),
    ):
        await served.knows_prices()
        yield served


async def test_the_command_line_client_gets_its_video(served: Served) -> None:
    """It builds addresses itself, but fetches the result where it is told to, with its token."""
    base = f"{served.url}/v1"
    async with served.client() as http:
        created = _good(await http.post(f"{base}/models/{SEEDANCE}", json=INPUT))
        request_id = created["request_id"]
        while True:  # the first poll is at once, and any other status than 2xx ends it all
            status = _good(await http.get(f"{base}/requests/{request_id}/status"))
            assert status["request_id"] == request_id
            if status["status"] in {"completed", "succeeded", "failed", "cancelled", "canceled"}:
                break
            await SystemClock().sleep(_PAUSE)
        assert created["result_url"].startswith(served.url), "the key would leave the gateway"
        result = _good(await http.get(created["result_url"]))
        assert (result["request_id"], result["status"]) == (request_id, "succeeded")
        await _is_a_film(result["output"]["video"], served)

        second = _good(
            await http.post(
                f"{base}/models/{SEEDANCE}", json=INPUT | {"prompt": "x sandbox:stuck-in-queue"}
            )
        )
        interrupted = _good(await http.post(f"{base}/requests/{second['request_id']}/cancel"))
        assert interrupted["request_id"] == second["request_id"]
        assert interrupted["outcome"] == "cancelled"
        status = _good(await http.get(second["status_url"]))
        assert status["status"] == "cancelled"

        # By what it tells the statuses apart: sign in again, bad input.
        wrong = await http.post(f"{base}/models/{SEEDANCE}", headers={"Authorization": "Bearer x"})
        assert wrong.status_code == 401
        assert (await http.post(f"{base}/models/{SEEDANCE}", json={})).status_code == 422
        assert (await http.post(f"{base}/models/no/such", json=INPUT)).status_code == 400


async def test_the_mcp_client_learns_why_a_request_failed(served: Served) -> None:
    async with served.client() as http:
        body = INPUT | {"prompt": "a walk sandbox:fail"}
        created = _told(await http.post(f"{served.url}/v1/models/{SEEDANCE}", json=body))
        while (status := _told(await http.get(created["status_url"])))["status"] != "completed":
            assert status["status"] in {"in_queue", "in_progress"}
            await SystemClock().sleep(_PAUSE)
        result = _told(await http.get(created["result_url"]))
        assert result["status"] == "failed"
        assert result["error"]["message"]
        assert "output" not in result
        with pytest.raises(ValueError, match="404001: There is no job"):
            _told(await http.get(f"{served.url}/v1/requests/req_1/status"))


async def test_the_node_client_asks_for_the_price_first_and_polls_the_result_alone(
    served: Served,
) -> None:
    async with served.client() as http:
        model = f"{served.url}/v1/models/{SEEDANCE}"
        entry = _good(await http.get(model))
        assert entry["model_id"] == SEEDANCE
        assert math.isfinite(entry["base_price_usd"])
        assert entry["base_price_usd"] >= 0  # the catalogue was read before the first request
        assert entry["price_unit"] in {"second", "output"}
        assert entry["input_schema"]["properties"]

        created = _good(await http.post(model, json=INPUT))
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", created["request_id"])
        running = {"pending", "waiting", "starting", "processing", "in_queue", "in_progress"}
        address = f"{served.url}/v1/requests/{created['request_id']}/result"
        while True:
            result = _good(await http.get(address, params={"include_cost": "true"}))
            if result["status"] not in running:
                break
            assert "cost" not in result
            await SystemClock().sleep(_PAUSE)
        assert result["status"] in {"completed", "succeeded"}
        assert result["cost"] == entry["base_price_usd"] * INPUT["duration"]
        await _is_a_film(result["output"]["video"], served)


async def test_a_script_that_tells_pictures_by_their_ending_finds_its_own(served: Served) -> None:
    """It takes every address in the result that ends as a picture does, whatever its key."""
    async with served.client() as http:
        body = {"prompt": "a walk", "image": ["https://example.com/a.png"]}
        submitted = await http.post(f"{served.url}/v1/models/{SEEDREAM}", json=body)
        created = _good(submitted)
        while _good(await http.get(created["status_url"]))["status"] != "completed":
            await SystemClock().sleep(_PAUSE)
        output = _good(await http.get(created["result_url"]))["output"]
    (found,) = (
        address for address in output.values() if re.search(r"\.(png|jpe?g|webp)(\?|$)", address)
    )
    async with httpx.AsyncClient(timeout=60) as anybody:
        picture = await anybody.get(found)
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")


async def test_who_polls_every_five_seconds_keeps_its_connection(served: Served) -> None:
    """Closed just then, it would take the next poll with it, and balancers answer that by a 502."""
    address = httpx.URL(served.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"HEAD /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(6):
            await reader.read()
    writer.close()


async def test_the_four_calls_work_with_curl(served: Served) -> None:
    """Only host and token differ from RunComfy's own documentation."""
    submit = await _curl(
        *("--request", "POST", f"{served.url}/v1/models/{SEEDANCE}"),
        *("--header", "Content-Type: application/json", "--data", json.dumps(INPUT)),
        key=served.key,
    )
    requests = f"{served.url}/v1/requests/{submit['request_id']}"
    while (await _curl(f"{requests}/status", key=served.key))["status"] != "completed":
        await SystemClock().sleep(_PAUSE)
    result = await _curl(f"{requests}/result", key=served.key)
    assert result["status"] == "succeeded"
    cancelled = await _curl("--request", "POST", f"{requests}/cancel", key=served.key)
    assert cancelled["outcome"] == "not_cancellable"


def _good(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text}"
    body: dict[str, Any] = answer.json()
    assert body.get("error_code") is None
    return body


def _told(answer: httpx.Response) -> dict[str, Any]:
    """Read an answer as the MCP server's client does, which looks at the body first."""
    body: dict[str, Any] = answer.json()
    if body.get("error_code"):
        said = next(filter(None, map(body.get, ("error_message", "message", "error", "detail"))))
        raise ValueError(f"{body['error_code']}: {said}")
    assert answer.is_success
    return body


async def _is_a_film(address: str, served: Served) -> None:
    assert address.startswith(served.url)
    async with httpx.AsyncClient(timeout=60) as anybody:
        film = await anybody.get(address)
    assert (film.status_code, film.headers["Content-Type"]) == (200, "video/mp4")
    assert film.content[4:8] == b"ftyp"


async def _curl(*arguments: str, key: str) -> dict[str, Any]:
    curl = shutil.which("curl")
    assert curl, "curl is missing: install the package curl"
    process = await asyncio.create_subprocess_exec(
        *(curl, "--silent", "--show-error", "--fail-with-body", "--max-redirs", "0"),
        *("--header", f"Authorization: Bearer {key}", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (out, err)
    body: dict[str, Any] = json.loads(out)
    return body
