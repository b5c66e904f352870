"""Proxies to a server's socket, so that a test can cut, mend or freeze what lies between."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from tests.support.processes import free_port


class Wire:
    """A proxy to a server's socket that can be cut, with all its connections, and mended.

    It can also freeze: connections are accepted, but nothing gets through.

    Its `loop` runs in another thread, since its user may block the test's.
    """

    def __init__(self, far: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._far = far
        self._loop = loop
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    def freeze(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.clear)

    def mend(self) -> None:
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def cut(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._flows.set()
        for end in list(self._ends):
            end.transport.abort()
        if self._carrying:
            await asyncio.wait(self._carrying, timeout=1)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying = self._loop.create_task(self._carry(reader, writer))
        self._carrying.add(carrying)
        carrying.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._far)
        ends = {writer, far_writer}
        self._ends |= ends
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy(reader, far_writer))
            group.create_task(self._copy(far_reader, writer))
        self._ends -= ends

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await source.read(2**16):
                await self._flows.wait()
                sink.write(self._passed_on(piece))
                await sink.drain()
        sink.close()

    def _passed_on(self, piece: bytes) -> bytes:
        return piece


class Pooler(Wire):
    """Reports a backend key of its own, as it must where clients take turns on connections."""

    def _passed_on(self, piece: bytes) -> bytes:
        return _BACKEND_KEY.sub(_BACKEND_KEY_BEGINS + bytes(8), piece)


_BACKEND_KEY_BEGINS = b"K\0\0\0\x0c"
_BACKEND_KEY = re.compile(_BACKEND_KEY_BEGINS + b".{8}", re.DOTALL)


@contextmanager
def running_wire(far: Path, *, kind: type[Wire] = Wire) -> Iterator[Wire]:
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    wire = kind(far, loop)
    wire.mend()
    try:
        yield wire
    finally:
        wire.cut()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
