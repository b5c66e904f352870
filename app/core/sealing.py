"""Secrets that must be stored and read back: authenticated encryption under the gateway's own key.

Fernet (AES-128-CBC and HMAC-SHA256) from `cryptography`; each purpose has its own key. The first
secret imports OpenSSL's bindings, 7 MB that a gateway without webhooks never needs.
"""

import base64
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import SecretBytes

from app.core.signatures import derived_key

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class SealBrokenError(Exception):
    """What was stored cannot be opened with any of the keys."""


class Sealer:
    """Seals with the first secret and opens with all, which is how a secret is rotated."""

    def __init__(self, secrets: Sequence[SecretBytes], *, purpose: str) -> None:
        self._keys = [base64.urlsafe_b64encode(derived_key(secret, purpose)) for secret in secrets]

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Return the sealed text, or raise SealBrokenError."""
        return _opened(self._fernet, sealed)

    def renew(self, sealed: str) -> str:
        """Return it sealed with the first secret, unchanged if it is; or raise SealBrokenError."""
        try:
            _opened(_fernet(self._keys[:1]), sealed)
        except SealBrokenError:
            return self.seal(self.open(sealed))
        return sealed

    @cached_property
    def _fernet(self) -> "MultiFernet":
        """Encrypts with the first key and tries all to decrypt."""
        return _fernet(self._keys)


def _fernet(keys: Sequence[bytes]) -> "MultiFernet":
    from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415 - heavy

    return MultiFernet([Fernet(key) for key in keys])


def _opened(keys: "MultiFernet", sealed: str) -> str:
    from cryptography.fernet import InvalidToken  # noqa: PLC0415 - heavy

    try:
        return keys.decrypt(sealed).decode()
    except InvalidToken:
        raise SealBrokenError("sealed with a key that is no longer there") from None
