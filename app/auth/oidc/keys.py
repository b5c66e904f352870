"""The issuer's public keys: fetched ahead, kept while it is down, refetched at a limited rate.

PyJWT is imported with the first key: it takes 10 MB, mostly OpenSSL's bindings.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import structlog

from app.auth.oidc.errors import IdentityProviderUnavailableError
from app.core.clock import Clock
from app.core.stopping import run_until

if TYPE_CHECKING:
    from jwt import PyJWK

logger = structlog.get_logger(__name__)

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
ALGORITHMS = frozenset({*RSA_ALGORITHMS, *_CURVES.values()})
"""Asymmetric ones only: with HS* the issuer's public key would serve as the secret."""

_MEMBERS = ("kty", "n", "e", "crv", "x", "y")
_LARGEST = 512 * 1024
_MOST_KEYS = 100
_FETCH_WITHIN_S = 10
_COOL_DOWN = timedelta(seconds=10)
_REFRESHED_EVERY = timedelta(minutes=10)
_RETRY_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A key for one algorithm; what the issuer says about it is checked when it is fetched."""

    kid: str | None
    algorithm: str
    jwk: "PyJWK"


class _NoUseError(ValueError):
    """What the issuer sent gives no keys; the text is ours alone, and safe to log."""


class IssuerKeys:
    """`client` is for the operator's own addresses; its timeouts limit each step of a fetch."""

    def __init__(self, *, issuer: str, client: httpx.AsyncClient, clock: Clock) -> None:
        self._issuer = issuer
        self._client = client
        self._clock = clock
        self._keys: Sequence[IssuerKey] = ()
        self._fetching = asyncio.Lock()
        self._may_ask_at = clock.monotonic()

    async def find(self, kid: str | None, *, algorithm: str) -> Sequence[IssuerKey]:
        """Return the keys that may have signed; without a `kid`, all of the algorithm.

        An unknown kid causes one fetch, then none for a while, whatever anybody sends.
        Raises IdentityProviderUnavailableError as long as no key was ever fetched.
        """
        if not self._knows(kid):
            # Another caller's fetch may have brought it while this one waited.
            async with self._fetching:
                if not self._knows(kid) and self._clock.monotonic() >= self._may_ask_at:
                    try:
                        await self._fetch_logged()
                    finally:
                        # From its end: who waited for one that hung must not begin the next.
                        self._may_ask_at = self._clock.monotonic() + _COOL_DOWN.total_seconds()
        if not self._keys:
            raise IdentityProviderUnavailableError
        return [key for key in self._keys if key.algorithm == algorithm and kid in (None, key.kid)]

    async def refresh(self) -> bool:
        """Fetch the keys; the known ones stay if that fails."""
        async with self._fetching:
            return await self._fetch_logged()

    async def run(self, stop: asyncio.Event) -> None:
        """Refresh regularly until `stop`, which cancels a fetch under way."""
        await run_until(stop, [self._repeat()])

    async def _repeat(self) -> None:
        while True:
            pause = _RETRY_AFTER
            try:
                if await self.refresh():
                    pause = _REFRESHED_EVERY
            except Exception:
                logger.exception("oidc.refresh_failed")
            await self._clock.sleep(pause)

    def _knows(self, kid: str | None) -> bool:
        return any(kid in (None, key.kid) for key in self._keys)

    async def _fetch_logged(self) -> bool:
        try:
            async with asyncio.timeout(_FETCH_WITHIN_S):
                self._keys = await self._fetch()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as exc:
            reason = str(exc) if isinstance(exc, _NoUseError) else type(exc).__name__
            logger.warning("oidc.keys_not_fetched", reason=reason)
            return False
        return True

    async def _fetch(self) -> Sequence[IssuerKey]:
        """Follow OpenID Connect Discovery 1.0, section 4; raise _NoUseError for anything else."""
        found = await self._get(
            f"{self._issuer.removesuffix('/')}/.well-known/openid-configuration"
        )
        if found.get("issuer") != self._issuer:
            raise _NoUseError("the discovery document is another issuer's")
        address = found.get("jwks_uri")
        plain = self._issuer.startswith("http://")
        if not isinstance(address, str) or not address.startswith(
            ("https://", "http://") if plain else "https://"
        ):
            raise _NoUseError("the discovery document has no jwks_uri")
        given = (await self._get(address)).get("keys")
        if not isinstance(given, list):
            raise _NoUseError("there are no keys")
        keys = [key for jwk in given[:_MOST_KEYS] for key in _usable(jwk)]
        if not keys:
            raise _NoUseError("none of the keys can be used")
        return keys

    async def _get(self, url: str) -> Mapping[str, Any]:
        body = bytearray()
        async with self._client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise _NoUseError("not answered with 200")
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > _LARGEST:
                    raise _NoUseError("too long")
        try:
            value = json.loads(body)
        except RecursionError as exc:
            raise _NoUseError("nested too deeply") from exc
        if not isinstance(value, dict):
            raise _NoUseError("not a JSON object")
        return value


def _usable(jwk: Any) -> Iterator[IssuerKey]:
    """Yield a key once for each algorithm it may verify; nothing if it is for another use."""
    from jwt import PyJWK, PyJWTError  # noqa: PLC0415 - heavy

    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return
    operations = jwk.get("key_ops", ["verify"])
    kid = jwk.get("kid")
    if not (isinstance(operations, list) and "verify" in operations):
        return
    if not (kid is None or isinstance(kid, str)):
        return
    public = {name: jwk[name] for name in _MEMBERS if name in jwk}
    for algorithm in _algorithms(jwk):
        try:
            yield IssuerKey(kid, algorithm, PyJWK(public, algorithm=algorithm))
        except (PyJWTError, ValueError, TypeError, AttributeError):
            logger.warning("oidc.key_not_usable", algorithm=algorithm)


def _algorithms(jwk: Mapping[str, Any]) -> Sequence[str]:
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", _:
            fitting: Sequence[str] = RSA_ALGORITHMS
        case ("EC", "P-256" | "P-384" | "P-521" as curve) | ("OKP", "Ed25519" as curve):
            fitting = (_CURVES[curve],)
        case _:
            return ()
    named = jwk.get("alg")
    return fitting if named is None else [each for each in fitting if each == named]
