"""Keys and client tokens as text: an id, and 256 random bits that are stored only as a hash."""

import hashlib
import re
import secrets
from dataclasses import dataclass

_FORM = re.compile(r"rcg_([0-9a-z]{26})_([0-9A-Za-z_-]{43})")
_CLIENT_FORM = re.compile(r"rct_([0-9a-z]{26})_([0-9A-Za-z_-]{43})")


@dataclass(frozen=True, slots=True)
class Token:
    """A key as its owner holds it; it must not be logged, and its `repr` shows no secret."""

    key_id: str
    secret: str

    @classmethod
    def make(cls, key_id: str) -> "Token":
        return cls(key_id, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "Token | None":
        match = _FORM.fullmatch(text)
        return cls(f"key_{match[1]}", match[2]) if match else None

    def __str__(self) -> str:
        return f"rcg_{self.key_id.removeprefix('key_')}_{self.secret}"

    def __repr__(self) -> str:
        return f"Token({self.key_id})"


@dataclass(frozen=True, slots=True)
class ClientToken:
    """A client token as a browser app holds it; like a key it must not be logged."""

    token_id: str
    secret: str

    @classmethod
    def make(cls, token_id: str) -> "ClientToken":
        return cls(token_id, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "ClientToken | None":
        match = _CLIENT_FORM.fullmatch(text)
        return cls(f"ctok_{match[1]}", match[2]) if match else None

    def __str__(self) -> str:
        return f"rct_{self.token_id.removeprefix('ctok_')}_{self.secret}"

    def __repr__(self) -> str:
        return f"ClientToken({self.token_id})"


def hash_secret(secret: str) -> str:
    """Hash with SHA-256: the secret is random, so a slow hash would only slow ourselves down."""
    return hashlib.sha256(secret.encode()).hexdigest()
