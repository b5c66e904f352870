"""A client of the sandbox, for tests."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from app.core.clock import ManualClock

SEEDANCE = "bytedance/seedance-1-0/pro/image-to-video"


@dataclass
class Sandbox:
    """Calls a sandbox as a client would; every submit of ours differs from every other."""

    http: httpx.AsyncClient
    clock: ManualClock
    number: Iterator[int] = field(default_factory=itertools.count)

    def input(self, words: str = "", **fields: Any) -> dict[str, Any]:
        prompt = f"take {next(self.number)} {words}"
        return {"prompt": prompt, "first_frame_image_url": "https://a.invalid/b.png"} | fields

    async def post(self, given: Any, *, model: str = SEEDANCE) -> httpx.Response:
        return await self.http.post(f"/v1/models/{model}", json=given)

    async def submit(self, words: str = "", *, model: str = SEEDANCE, **fields: Any) -> str:
        answer = await self.post(self.input(words, **fields), model=model)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["request_id"])

    async def status(self, request_id: str) -> httpx.Response:
        return await self.http.get(f"/v1/requests/{request_id}/status")

    async def result(self, request_id: str) -> httpx.Response:
        return await self.http.get(f"/v1/requests/{request_id}/result?include_cost=true")

    async def cancel(self, request_id: str) -> httpx.Response:
        return await self.http.post(f"/v1/requests/{request_id}/cancel")

    async def seen(self, given: Any) -> list[bool]:
        """Tell of each submit of this input whether it was accepted."""
        received = (await self.http.get("/sandbox/requests")).json()["requests"]
        return [entry["accepted"] for entry in received if entry["input"] == given]

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


def client(base: str, token: str = "any") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
