"""Bodies as JSON, before there is a call that they are for."""

import pytest
from fastapi import Request
from starlette.types import Message

from app.api.json_body import json_body


async def test_the_bytes_of_a_body_are_not_kept_beside_what_was_read_from_them() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"a": 1}'}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    assert await json_body(request) == {"a": 1}
    with pytest.raises(RuntimeError, match="Stream consumed"):
        await request.body()
