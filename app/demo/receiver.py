"""The demo's receiver of webhooks: it accepts, defers or is gone, by path."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TAKES = "/jobs"
SLEEPS = "/asleep"
GONE = "/moved"
_ANSWERS = {TAKES: "204 No Content", SLEEPS: "503 Service Unavailable"}


@asynccontextmanager
async def running_receiver() -> AsyncIterator[str]:
    """Listen on loopback until the block ends, and yield the base URL."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if length := re.search(r"^content-length: (\d+)", head, re.IGNORECASE | re.MULTILINE):
            await reader.readexactly(int(length[1]))
        answer = _ANSWERS.get(head.split(" ", 2)[1], "410 Gone")
        writer.write(
            f"HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()
        )
    except asyncio.IncompleteReadError:
        pass  # the caller has gone
    finally:
        writer.close()
