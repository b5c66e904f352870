"""Operators: the admin tokens of the settings, and the gate that checks them by their hashes."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.auth.credentials import bearer_token
from app.auth.errors import TooManyAttemptsError, WrongAdminTokenError
from app.core import gcra
from app.core.clock import Clock

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOKEN = re.compile(r"[!-+\--9;-~]+")  # visible ASCII without comma and colon
_SHORTEST = 32
_ONLY_NAME = "admin"
_GATEWAY_ITSELF = "system"

_SECOND_US = 1_000_000
_BURST = 10


@dataclass(frozen=True, slots=True)
class AdminToken:
    """A token, kept as a digest; the audit log calls its user `name`."""

    name: str
    digest: bytes


def parse_admin_tokens(text: str) -> tuple[AdminToken, ...]:
    """Read one token, or `name:token` pairs with commas; a ValueError never quotes a token."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) == 1 and ":" not in parts[0]:
        return (AdminToken(_ONLY_NAME, _digest(_checked(parts[0], of="the token"))),)
    if not parts:
        raise ValueError("there is no token in it; leave it unset to have no admin API")
    tokens = []
    for place, part in enumerate(parts, 1):
        name, colon, token = part.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise ValueError(
                f"entry {place} must be `name:token`, with a name of 1 to 64 letters,"
                " digits and . _ -"
            )
        if name == _GATEWAY_ITSELF:
            raise ValueError(f"{name} is reserved for the gateway itself in the audit log")
        tokens.append(AdminToken(name, _digest(_checked(token, of=f"the token of {name}"))))
    if len({token.name for token in tokens}) < len(tokens):
        raise ValueError("each name may be given only once")
    if len({token.digest for token in tokens}) < len(tokens):
        raise ValueError("two names have the same token, so nobody could tell who it was")
    return tuple(tokens)


class OperatorGate:
    """Identifies operators by their tokens.

    Wrong tokens are answered at a limited rate: ten at once, then one a second, in each process. A
    right one always passes: otherwise anybody could lock operators out, and tokens are too long to
    guess.
    """

    def __init__(self, tokens: Sequence[AdminToken], *, clock: Clock) -> None:
        self._tokens = tuple(tokens)
        self._clock = clock
        self._arrival_us = 0

    @property
    def is_open(self) -> bool:
        """Return whether there are operators; without any there is no admin API."""
        return bool(self._tokens)

    def admit(self, authorization: str | None) -> str:
        """Return the operator's name; raises WrongAdminTokenError or TooManyAttemptsError."""
        digest = _digest(bearer_token(authorization))
        # All are compared, so that the time taken does not reveal which ones differ.
        names = [token.name for token in self._tokens if hmac.compare_digest(token.digest, digest)]
        if names:
            return names[0]
        granted, self._arrival_us = gcra.take(
            1,
            arrival_us=self._arrival_us,
            now_us=int(self._clock.monotonic() * _SECOND_US),
            interval_us=_SECOND_US,
            burst=_BURST,
        )
        raise WrongAdminTokenError if granted else TooManyAttemptsError


def _checked(token: str, *, of: str) -> str:
    if len(token) < _SHORTEST:
        raise ValueError(f"{of} must be at least {_SHORTEST} characters long")
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{of} must be visible ASCII characters without comma and colon")
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
