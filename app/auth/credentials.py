"""Keys and client tokens as text: an id, and 256 random bits that are stored only as a hash."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import ClassVar, Self

_ID, _SECRET = "[0-9a-z]{26}", "[0-9A-Za-z_-]{43}"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller holds; never log it, though its `repr` shows no secret.

    As text it starts with `sign` where its id has `prefix`.
    """

    id: str
    secret: str

    sign: ClassVar[str]
    prefix: ClassVar[str]

    @classmethod
    def make(cls, id_: str) -> Self:
        return cls(id_, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        match = re.fullmatch(f"{cls.sign}_({_ID})_({_SECRET})", text)
        return cls(f"{cls.prefix}_{match[1]}", match[2]) if match else None

    def __str__(self) -> str:
        return f"{self.sign}_{self.id.removeprefix(f'{self.prefix}_')}_{self.secret}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id})"


class KeyCredential(Credential):
    """A key as its owner holds it."""

    sign, prefix = "rcg", "key"


class ClientCredential(Credential):
    """A client token as a browser app holds it."""

    sign, prefix = "rct", "ctok"


def bearer_token(authorization: str | None) -> str:
    """Return the token in an Authorization header (RFC 6750), or an empty string."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def hash_secret(secret: str) -> str:
    """Hash with SHA-256: the secret is random, so a slow hash would only slow ourselves down."""
    return hashlib.sha256(secret.encode()).hexdigest()
