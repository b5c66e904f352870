"""API keys as text: `rcg_`, the key's id, and 256 random bits that are stored only as a hash."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_FORM = re.compile(r"rcg_([0-9a-z]{26})_([0-9A-Za-z_-]{43})")


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


def hash_secret(secret: str) -> str:
    """Hash with SHA-256: the secret is random, so a slow hash would only slow ourselves down."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, secret_hash: str) -> bool:
    return hmac.compare_digest(hash_secret(secret), secret_hash)
