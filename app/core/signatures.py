"""Keyed signatures for links, which leave the gateway and come back.

HMAC-SHA256 (RFC 2104). Each purpose signs with a key of its own, derived from the secret, so that a
signature made for one purpose is worthless for another.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from pydantic import SecretBytes


class Signer:
    """Signs with the first secret and accepts all, which is how a secret is rotated."""

    def __init__(self, secrets: Sequence[SecretBytes], *, purpose: str) -> None:
        self._keys = [derived_key(secret, purpose) for secret in secrets]

    def sign(self, message: str) -> str:
        """Return 32 characters of URL-safe base 64: 192 bits of the digest."""
        return _signature(self._keys[0], message)

    def verify(self, message: str, signature: str) -> bool:
        given = signature.encode("utf-8", "surrogatepass")
        return any(
            hmac.compare_digest(_signature(key, message).encode(), given) for key in self._keys
        )


def derived_key(secret: SecretBytes, purpose: str) -> bytes:
    """Return 32 bytes for this purpose alone, which tell nothing of the secret."""
    return hmac.digest(secret.get_secret_value(), purpose.encode(), hashlib.sha256)


def _signature(key: bytes, message: str) -> str:
    digest = hmac.digest(key, message.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:24]).decode()
