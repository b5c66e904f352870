"""What the guard's tests need from a network: names that change, ports that count, certificates."""

import asyncio
import ipaddress
import re
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.net.addresses import IPAddress
from app.net.errors import NoSuchHostError
from tests.support.processes import free_port

_watchers: list[list[str]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watchers and isinstance(arguments[1], tuple):
        for seen in _watchers:
            seen.append(str(arguments[1][0]))


sys.addaudithook(_note)


@contextmanager
def watched_connects() -> Iterator[list[str]]:
    """List every address that anything in this process tries to connect to."""
    seen: list[str] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


class Names:
    """A resolver with a table; a name with several answers gives the next one at each look-up."""

    def __init__(self, **names: Sequence[Sequence[str]]) -> None:
        self._names = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.asked: list[str] = []

    async def addresses(self, host: str) -> Sequence[IPAddress]:
        self.asked.append(host)
        answers = self._names.get(host.removesuffix("."))
        if answers is None:
            raise NoSuchHostError
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ipaddress.ip_address(text) for text in answer]


class Port:
    def __init__(self) -> None:
        self.number = 0
        self.connections = 0


@asynccontextmanager
async def counting_port() -> AsyncIterator[Port]:
    """Listen on every address of this machine, IPv4 and IPv6, and count connections."""
    port = Port()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(count, "127.0.0.1", 0)
    port.number = listening.sockets[0].getsockname()[1]
    others = [
        await asyncio.start_server(count, host, port.number)
        for host in ("::1", "127.0.0.2", "127.0.255.255")
    ]
    try:
        yield port
    finally:
        for server in (listening, *others):
            server.close()


def certified(*names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate for `names`: the server's context, and one that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(issuer)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "server.pem")
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + pem
        )
        server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client


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
