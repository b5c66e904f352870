"""Ids for the identity provider's users: no two users share one."""

import hashlib

from app.core.ids import CROCKFORD
from app.core.owners import OIDC

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-")
_LONGEST = 128
_ID_LENGTH = 26


def user_id_of(claim: str) -> str:
    """Escape each byte other than letters, digits and . _ @ - as `:` and two hex digits.

    What would be too long becomes `::` and its SHA-256, a form that nothing else takes.
    """
    written = "".join(
        chr(byte) if chr(byte) in _PLAIN else f":{byte:02x}" for byte in claim.encode()
    )
    if len(written) > _LONGEST:
        written = f"::{hashlib.sha256(claim.encode()).hexdigest()}"
    return f"{OIDC}/{written}"


def key_id_of(user_id: str) -> str:
    """Return the id of the key for a user's sign-ins; concurrent first sign-ins get the same."""
    number = int.from_bytes(hashlib.sha256(f"oidc key of {user_id}".encode()).digest(), "big")
    return "key_" + "".join(CROCKFORD[number >> 5 * place & 31] for place in range(_ID_LENGTH))
