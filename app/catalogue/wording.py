"""How a client's input is pointed at and quoted, so that any answer can be written and read."""

import json
from typing import Any

from app.core.pointers import json_pointer

_QUOTED_CHARACTERS = 60


def pointer(*path: str | int) -> str:
    """Point into the request body: `/input/images/0`."""
    return json_pointer("input", *path)


def label(*path: str | int) -> str:
    """Name a place as a reader would: `images[0]`, in backticks."""
    field, *rest = (clipped(str(step)) for step in path)
    return f"`{field}{''.join(f'[{step}]' for step in rest)}`"


def quoted(value: Any) -> str:
    """Write a scalar as JSON, cut short."""
    if isinstance(value, str):
        value = clipped(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if isinstance(value, str) else clipped(text)


def clipped(text: str, *, most: int = _QUOTED_CHARACTERS) -> str:
    """Cut `text` short; lone surrogates, which no response can carry, become `?`."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    return text.encode("utf-8", "replace").decode()
