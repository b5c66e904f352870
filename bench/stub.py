"""RunComfy at no cost: it accepts every submit, and a look finds a job ended at random.

    python -m bench.stub --ending 0.005

prints its port and serves until it is terminated.
"""

import argparse
import asyncio
import itertools
import json
import random
from typing import Any, cast

import httptools
import uvloop

_REQUEST_IDS = itertools.count()
_VIDEO = {"video": "https://files.runcomfy.net/v.mp4"}


class Stub(asyncio.Protocol):
    """`ending` is the share of looks that find a job at its end."""

    def __init__(self, ending: float) -> None:
        self._ending = ending
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_message_complete(self) -> None:
        content = json.dumps(self._answer()).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
        )

    def _answer(self) -> dict[str, Any]:
        if self._parser.get_method() == b"POST":
            return {"request_id": f"request-{next(_REQUEST_IDS)}"}
        if b"/result" in self._url:
            return {"request_id": "r", "status": "succeeded", "output": _VIDEO}
        status = "completed" if random.random() < self._ending else "in_progress"
        return {"request_id": "r", "status": status}


async def main(ending: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(ending), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ending", type=float, default=0.005)
    uvloop.run(main(parser.parse_args().ending))
