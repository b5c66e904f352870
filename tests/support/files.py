"""A picture, and how it is uploaded."""

from typing import Any

from tests.support.gateway import Gateway

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\x90\0\0\1\x90\x08\2\0\0\0" + bytes(range(256)) * 40


async def upload(gateway: Gateway, data: bytes = PNG, **headers: str) -> dict[str, Any]:
    answer = await gateway.http.post("/v1/files", content=data, headers=headers)
    assert answer.status_code == 201, answer.text
    file: dict[str, Any] = answer.json()
    return file
