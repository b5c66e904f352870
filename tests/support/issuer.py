"""An OpenID provider on a loopback socket, whose keys and answers a test decides."""

import asyncio
import json
import ssl
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "gateway-of-tests"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def private_key(_name: str, kind: str = "RSA", size: int = 2048) -> PrivateKey:
    """Make the key of a name once for all tests of a process; RSA keys take a while."""
    match kind:
        case "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=size)
        case "EC":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: PrivateKey, *, kid: str | None, **members: Any) -> dict[str, Any]:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        written = RSAAlgorithm.to_jwk(public)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        written = ECAlgorithm.to_jwk(public)
    else:
        written = OKPAlgorithm.to_jwk(public)
    named = {} if kid is None else {"kid": kid}
    return {**json.loads(written), **named, **members}


@dataclass
class Issuer:
    """`fetches` counts the calls for keys; `discovery` replaces the usual document."""

    host: str = "http://127.0.0.1"
    port: int = 0
    keys: list[dict[str, Any]] = field(default_factory=list)
    discovery: dict[str, Any] | None = None
    raw: bytes | None = None
    is_up: bool = True
    fetches: int = 0

    @property
    def url(self) -> str:
        return f"{self.host}:{self.port}"

    def sign(self, at: datetime, *, kid: str | None = "k1", **how: Any) -> str:
        """Sign as a provider does; `how` may name `key`, `algorithm`, `headers` and claims."""
        key = how.pop("key", private_key("k1"))
        algorithm = how.pop("algorithm", "RS256")
        headers = how.pop("headers", {}) | ({} if kid is None else {"kid": kid})
        claims: dict[str, Any] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "u1",
            "iat": int(at.timestamp()),
            "exp": int((at + timedelta(minutes=5)).timestamp()),
        } | how.pop("claims", {})
        claims = {name: value for name, value in claims.items() if value is not ...}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
            return jwt.encode(claims, key, algorithm=algorithm, headers=headers)

    def answer(self, path: str) -> bytes:
        if path == "/.well-known/openid-configuration":
            body: Mapping[str, Any] = self.discovery or {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
            }
            return json.dumps(body).encode()
        self.fetches += 1
        return json.dumps({"keys": self.keys}).encode() if self.raw is None else self.raw


@asynccontextmanager
async def running_issuer(context: ssl.SSLContext | None = None) -> AsyncIterator[Issuer]:
    """Run a provider; with a `context` it is at https://localhost."""
    issuer = Issuer(keys=[public_jwk(private_key("k1"), kid="k1")])
    if context is not None:
        issuer.host = "https://localhost"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if issuer.is_up:
                body = issuer.answer(head.split(" ")[1])
                lines = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close"
                writer.write(f"{lines}\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    issuer.port = listening.sockets[0].getsockname()[1]
    try:
        yield issuer
    finally:
        listening.close()
