"""Keyed signatures for links, which leave the gateway and come back before they expire.

HMAC-SHA256 (RFC 2104). Each purpose signs with a key of its own, derived from the secret, so that a
signature made for one purpose is worthless for another.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from pydantic import SecretBytes


class Signer:
    """Signs with the first secret and accepts all, which is how a secret is rotated."""

    def __init__(self, secrets: Sequence[SecretBytes], *, purpose: str) -> None:
        self._keys = [derived_key(secret, purpose) for secret in secrets]

    def query(self, subject: str, *, expires: int) -> str:
        """Return the query of a link to `subject`; `expires` is in seconds since the epoch."""
        signature = _signature(self._keys[0], _text(subject, expires))
        return f"expires={expires}&signature={signature}"

    def admits(self, subject: str, *, expires: int, signature: str, at: datetime) -> bool:
        """Return whether a link to `subject` has a genuine signature, and has not expired."""
        text, given = _text(subject, expires), signature.encode("utf-8", "surrogatepass")
        is_genuine = any(
            hmac.compare_digest(_signature(key, text).encode(), given) for key in self._keys
        )
        return is_genuine and at.timestamp() < expires


def derived_key(secret: SecretBytes, purpose: str) -> bytes:
    """Return 32 bytes for this purpose alone, which reveal nothing about the secret."""
    return hmac.digest(secret.get_secret_value(), purpose.encode(), hashlib.sha256)


def _text(subject: str, expires: int) -> str:
    return f"{subject}/{expires}"


def _signature(key: bytes, message: str) -> str:
    """Return 32 characters of URL-safe base 64: 192 bits of the digest."""
    digest = hmac.digest(key, message.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:24]).decode()
