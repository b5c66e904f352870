"""Getting the first frame that an input names."""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx

from app.sandbox.scenarios import texts

_MOST_BYTES = 50 * 1024 * 1024
_MOST_CANDIDATES = 3
_DEADLINE = 5.0


async def candidates(given: Mapping[str, Any]) -> list[bytes]:
    """Fetch what the input's first few addresses hold; one that does not answer is left out."""
    addresses = [text for text in texts(given) if text.startswith(("http://", "https://", "data:"))]
    found = [await _fetch(address) for address in addresses[:_MOST_CANDIDATES]]
    return [data for data in found if data]


async def _fetch(address: str) -> bytes | None:
    try:
        async with asyncio.timeout(_DEADLINE):
            return _unpack(address) if address.startswith("data:") else await _download(address)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, binascii.Error):
        return None


def _unpack(uri: str) -> bytes:
    kind, _, payload = uri.partition(",")
    return base64.b64decode(payload) if kind.endswith(";base64") else unquote_to_bytes(payload)


async def _download(url: str) -> bytes | None:
    """Read a bounded body; more than the bound counts as nothing."""
    data = bytearray()
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=True, max_redirects=3) as client,
        client.stream("GET", url) as response,
    ):
        if not response.is_success:
            return None
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > _MOST_BYTES:
                return None
    return bytes(data)
