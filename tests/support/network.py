"""What the guard's tests need from a network: names that change, ports that count, certificates."""

import asyncio
import ipaddress
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.net.addresses import IPAddress
from app.net.errors import NoSuchHostError

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
