"""A RunComfy that has a catalogue and nothing else, changed by the test as it likes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.wire_server import Line, answer, wire_server


@dataclass
class Shelf:
    """`entries` are served in pages; while `broken` is set it is the whole answer.

    One that `shrinks` loses its first entry once a page has been served.
    """

    url: str = ""
    entries: list[Any] = field(default_factory=list)
    broken: bytes | None = None
    total: int | None = None
    most: int = 500
    shrinks: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)

    def page(self, target: str) -> bytes:
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.asked.append({"path": parts.path, **query})
        if self.broken is not None:
            return self.broken
        offset, limit = int(query["offset"]), min(int(query["limit"]), self.most)
        total = len(self.entries) if self.total is None else self.total
        models = self.entries[offset : offset + limit]
        if self.shrinks:
            del self.entries[0]
        return answer(
            raw=json.dumps(
                {"models": models, "total": total, "limit": limit, "offset": offset}
            ).encode()
        )


def entry(model_id: str = "acme/dream/text-to-video", **changes: Any) -> dict[str, Any]:
    """Make an entry with every key that RunComfy's have."""
    schema = {
        "type": "object",
        "properties": {
            "prompt": {"type": "string"},
            "duration": {"type": "integer", "enum": [5, 10], "default": 5},
        },
        "required": ["prompt"],
    }
    return {
        "model_id": model_id,
        "display_name": "Dream",
        "description": "Dreams of anything.",
        "categories": ["text-to-video", "new"],
        "kind": "video",
        "base_price_usd": 0.2,
        "price_unit": "second",
        "pricing_note": "per second of film",
        "model_url": f"https://www.runcomfy.com/models/{model_id}",
        "inputs": ["prompt", "duration"],
        "required_inputs": ["prompt"],
        "input_schema": schema,
        **changes,
    }


@asynccontextmanager
async def shelf(*entries: Any) -> AsyncIterator[Shelf]:
    made = Shelf(entries=list(entries))

    async def serve(line: Line) -> None:
        while True:
            received = await line.request()
            await line.send(made.page(received.target))

    async with wire_server(serve) as server:
        made.url = server.url
        yield made
