"""Reads what an identity provider's token says about its user, and checks every part of it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard

from app.auth.oidc.keys import ALGORITHMS, IssuerKeys
from app.auth.oidc.naming import user_id_of
from app.core.clock import Clock
from app.core.errors import UnauthenticatedError

if TYPE_CHECKING:
    from jwt import PyJWS

_LONGEST = 16 * 1024
_LONGEST_CLAIM = 1024
_TYPES = frozenset({"jwt", "at+jwt"})
_SKEW = timedelta(seconds=60)
_FAR = datetime(9999, 1, 1, tzinfo=UTC).timestamp()  # about the last date there is


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcConfig:
    """`issuer` must match exactly. Without a `plan_claim` operators choose plans."""

    issuer: str
    audience: str
    user_claim: str = "sub"
    plan_claim: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`plan` is the claim's unchecked value; None without the claim.

    `ends_at` is how long a caller with this token may stay connected.
    """

    user_id: str
    plan: object
    ends_at: datetime


class OidcVerifier:
    def __init__(self, config: OidcConfig, *, keys: IssuerKeys, clock: Clock) -> None:
        self._config = config
        self._keys = keys
        self._clock = clock

    async def verify(self, token: str) -> Identity:
        """Raise UnauthenticatedError, or IdentityProviderUnavailableError without any keys."""
        if len(token) > _LONGEST:
            raise UnauthenticatedError(f"The token is longer than {_LONGEST} characters.")
        claims = await self._signed_claims(token)
        ends_at = self._check_times(claims)
        if claims.get("iss") != self._config.issuer:
            raise UnauthenticatedError(
                "The token is from another issuer than the one this gateway trusts."
            )
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._config.audience not in audiences:
            raise UnauthenticatedError("The token is for another audience than this gateway.")
        user = claims.get(self._config.user_claim)
        if not isinstance(user, str) or not user or len(user) > _LONGEST_CLAIM:
            raise UnauthenticatedError("The token does not say whose it is.")
        try:
            user_id = user_id_of(user)
        except UnicodeEncodeError as exc:
            raise UnauthenticatedError("The token does not say whose it is.") from exc
        plan_claim = self._config.plan_claim
        return Identity(
            user_id=user_id,
            plan=None if plan_claim is None else claims.get(plan_claim),
            ends_at=ends_at,
        )

    @cached_property
    def _jws(self) -> "PyJWS":
        from jwt import PyJWS  # noqa: PLC0415 - heavy, as keys.py says

        return PyJWS(algorithms=sorted(ALGORITHMS), options={"enforce_minimum_key_length": True})

    async def _signed_claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims, verified by a key of the issuer, never by one the token brings."""
        from jwt import PyJWTError  # noqa: PLC0415 - heavy

        try:
            header = self._jws.get_unverified_header(token)
        except (PyJWTError, ValueError) as exc:
            raise UnauthenticatedError("The token cannot be read.") from exc
        algorithm, kid = header.get("alg"), header.get("kid")
        if not (isinstance(algorithm, str) and algorithm in ALGORITHMS and _is_plain(header)):
            raise UnauthenticatedError("The token is signed in a way that is not accepted.")
        for key in await self._keys.find(kid, algorithm=algorithm):
            try:
                verified = self._jws.decode_complete(token, key.jwk, algorithms=[algorithm])
                claims = json.loads(verified["payload"])
            except (PyJWTError, ValueError, RecursionError):
                continue
            if isinstance(claims, dict):
                return claims
        raise UnauthenticatedError("The token is not signed by a key of its issuer.")

    def _check_times(self, claims: Mapping[str, Any]) -> datetime:
        """Return when the token ends."""
        now, skew = self._clock.now().timestamp(), _SKEW.total_seconds()
        expires = claims.get("exp")
        if not _is_time(expires) or now - skew >= expires:
            raise UnauthenticatedError("The token has expired, or does not say when it does.")
        for name in ("nbf", "iat"):
            begins = claims.get(name, now)
            if not _is_time(begins) or begins > now + skew:
                raise UnauthenticatedError("The token is not valid yet.")
        # The skew lets a token in late but prolongs no stay; one used within it lasts to its end.
        ends = expires if now < expires else expires + skew
        return datetime.fromtimestamp(min(ends, _FAR), UTC)


def _is_plain(header: Mapping[str, Any]) -> bool:
    """Return whether a header asks for nothing special, and is not a logout token's."""
    kind = header.get("typ", "JWT")
    named = isinstance(kind, str) and kind.lower().removeprefix("application/") in _TYPES
    return named and not header.keys() & {"crit", "b64", "zip", "enc"}


def _is_time(value: object) -> TypeGuard[int | float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return -math.inf < value < math.inf  # `isfinite` fails for integers beyond any float
