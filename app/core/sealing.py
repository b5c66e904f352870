"""Secrets that must be stored and read back: authenticated encryption under the gateway's own key.

Fernet (AES-128-CBC and HMAC-SHA256) of `cryptography`; each purpose has a key of its own.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretBytes


class SealBrokenError(Exception):
    """What was stored opens with none of the keys."""


class Sealer:
    """Seals with the first secret and opens with all, which is how a secret is rotated."""

    def __init__(self, secrets: Sequence[SecretBytes], *, purpose: str) -> None:
        keys = [Fernet(_key(secret, purpose)) for secret in secrets]
        self._first, self._keys = keys[0], MultiFernet(keys)

    def seal(self, text: str) -> str:
        return self._keys.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Give the text back, or raise SealBrokenError."""
        try:
            return self._keys.decrypt(sealed).decode()
        except InvalidToken:
            raise SealBrokenError("sealed with a key that is no longer there") from None

    def renew(self, sealed: str) -> str:
        """Give it sealed with the first secret: the same if it is so; raises SealBrokenError."""
        try:
            self._first.decrypt(sealed)
        except InvalidToken:
            return self.seal(self.open(sealed))
        return sealed


def _key(secret: SecretBytes, purpose: str) -> bytes:
    derived = hmac.digest(secret.get_secret_value(), purpose.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(derived)
