"""Standard Webhooks signatures, by the specification's own library."""

import base64
import secrets as randomness
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook

_PREFIX = "whsec_"
_BYTES = 32


class NoSecretError(Exception):
    """There is no secret to sign with, and nothing is sent unsigned."""


def new_secret() -> str:
    return _PREFIX + base64.b64encode(randomness.token_bytes(_BYTES)).decode()


def signed_headers(
    secrets: Sequence[str], *, message_id: str, body: str, at: datetime
) -> dict[str, str]:
    """Return the headers of one attempt; each secret signs, and a receiver needs only one."""
    if not secrets:
        raise NoSecretError
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(message_id, at, body) for secret in secrets
        ),
    }
