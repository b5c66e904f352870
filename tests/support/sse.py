"""Server-sent events as the HTML standard has clients read them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True)
class Event:
    id: str
    event: str
    data: dict[str, Any]


@dataclass
class Stream:
    """An open stream; `comments` and `retry` are what came besides the events."""

    answer: httpx.Response
    comments: list[str] = field(default_factory=list)
    last_id: str = ""
    retry: int | None = None

    def __post_init__(self) -> None:
        self._lines = self.answer.aiter_lines()

    async def next(self) -> Event | None:
        """Return the next event, or None at the end of the stream."""
        event, data = "", None
        async with asyncio.timeout(60):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                match name:
                    case "id":
                        self.last_id = value
                    case "event":
                        event = value
                    case "data":
                        assert data is None, "data is one line"
                        data = json.loads(value)
                    case "retry":
                        self.retry = int(value)
                    case "" if value:
                        self.comments.append(value)
                    case "" if data is not None:
                        return Event(self.last_id, event, data)
        return None

    async def rest(self) -> list[Event]:
        events = []
        while event := await self.next():
            events.append(event)
        return events


@asynccontextmanager
async def stream(
    http: httpx.AsyncClient, path: str, *, after: str | None = None
) -> AsyncIterator[Stream]:
    headers = {} if after is None else {"Last-Event-ID": after}
    async with http.stream("GET", path, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream"
        yield Stream(answer)
