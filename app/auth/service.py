"""Turns a bearer token, or the user that a service names, into a principal."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.credentials import ClientCredential, KeyCredential, bearer_token, hash_secret
from app.auth.errors import MissingScopeError, UserDisabledError, WrongOriginError
from app.auth.models import PageOrigin, Principal, checked_user_id
from app.auth.oidc.service import OidcSignIn
from app.auth.repository import ApiKey, AuthRepository, FoundClientToken, UserTerms
from app.auth.scopes import CLIENT_SCOPES, Scope
from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError, UnauthenticatedError
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.db.users import keep_user
from app.quotas.policy import Policy

_USE_RECORDED_EVERY = timedelta(minutes=1)
_NO_PAGE = PageOrigin()
_DOTS_OF_A_JWT = 2

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request, before it is known for whom; only with a `key` may it act for another."""

    principal: Principal
    key: ApiKey | None = None


class AuthService:
    """`own_origin` is that of the gateway's own pages; `oidc` is for tokens of an issuer."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        own_origin: str | None = None,
        oidc: OidcSignIn | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._own_origin = own_origin
        self._oidc = oidc
        self._find_key = self._by_id(AuthRepository.find_held_keys)
        self._find_client_token = self._by_id(AuthRepository.find_client_tokens)
        self._find_terms = self._by_id(AuthRepository.find_terms_of)
        self._being_recorded: set[str] = set()

    async def authenticate(
        self, authorization: str | None, *, came_from: PageOrigin = _NO_PAGE
    ) -> Sender:
        """Return who sent this Authorization header (RFC 6750).

        Raises UnauthenticatedError or WrongOriginError; for a token of an issuer also what
        `OidcSignIn.sign_in` raises.
        """
        if authorization is None:
            raise UnauthenticatedError(
                "Send an API key of this gateway as `Authorization: Bearer rcg_...`."
            )
        text = bearer_token(authorization)
        if key := KeyCredential.parse(text):
            return await self._holder_of_key(key)
        if token := ClientCredential.parse(text):
            return Sender(await self._holder_of_token(token, came_from))
        if self._oidc is not None and text.count(".") == _DOTS_OF_A_JWT:
            return Sender(await self._user_of_issuer(self._oidc, text))
        raise UnauthenticatedError(
            "That is not an API key of this gateway; send `Authorization: Bearer rcg_...`."
        )

    async def act(self, sender: Sender, *, name: str) -> Principal:
        """Return the principal for a service's request on behalf of its user of that `name`.

        Raises MissingScopeError, InvalidUserIdError, UserDisabledError or UserGoneError.
        """
        key, own = sender.key, sender.principal
        if key is None or Scope.ACT_AS not in key.scopes:
            raise MissingScopeError(Scope.ACT_AS)
        terms = await self._user_of_service(key, name)
        return replace(
            own,
            user_id=terms.user_id,
            plan=terms.plan,
            models=_both(terms.models, key.models),
            policy=replace(own.policy, zone=terms.zone, user=terms.limits),
        )

    async def holder_of_link(self, token_id: str) -> Principal:
        """Return whom a link signed for a client token stands for; it lives as long as that."""
        found = await self._find_client_token(token_id)
        if found is None or not self._is_alive(found):
            raise UnauthenticatedError("The client token of this link was revoked or has expired.")
        return _principal_of_token(found)

    async def _holder_of_key(self, credential: KeyCredential) -> Sender:
        at = self._clock.now()
        found = await self._find_key(credential.id)
        if found is None or not found.key.opens_with(credential.secret, at=at):
            raise UnauthenticatedError("No such API key; check for a typing mistake.")
        key, terms = found.key, found.terms
        if terms.disabled or not key.is_valid(at=at):
            raise UnauthenticatedError("This API key was revoked, has expired or is disabled.")
        await self._record_use(key)
        principal = Principal(
            user_id=terms.user_id,
            key_id=key.id,
            scopes=key.scopes,
            plan=terms.plan,
            models=_both(terms.models, key.models),
            policy=Policy(zone=terms.zone, user=terms.limits, key=key.limits, key_zone=terms.zone),
            secret_hash=hash_secret(credential.secret),
        )
        return Sender(principal, key)

    async def _user_of_issuer(self, oidc: OidcSignIn, token: str) -> Principal:
        found, ends_at = await oidc.sign_in(token)
        key, terms = found.key, found.terms
        await self._record_use(key)
        return Principal(
            user_id=terms.user_id,
            key_id=key.id,
            scopes=key.scopes & frozenset(CLIENT_SCOPES),
            plan=terms.plan,
            models=_both(terms.models, key.models),
            policy=Policy(zone=terms.zone, user=terms.limits, key=key.limits),
            ends_at=ends_at,
        )

    async def _holder_of_token(
        self, credential: ClientCredential, came_from: PageOrigin
    ) -> Principal:
        found = await self._find_client_token(credential.id)
        if found is None or not found.token.opens_with(credential.secret):
            raise UnauthenticatedError("No such client token; it may have been revoked.")
        if not self._is_alive(found):
            raise UnauthenticatedError(
                "This client token has expired, or the key that made it or its user has ended."
            )
        self._check_origin(found.token.origin, came_from)
        return _principal_of_token(found)

    def _by_id(
        self, find: Callable[[AuthRepository, Sequence[str]], Awaitable[Mapping[str, Found]]]
    ) -> NaturalBatch[str, Found | None]:
        """Batch the look-ups of waiting callers into one statement: every request makes one."""

        async def find_all(ids: Sequence[str]) -> Sequence[Found | None]:
            found = await self._database.look_up(lambda tx: find(AuthRepository(tx), ids))
            return [found.get(id_) for id_ in ids]

        return NaturalBatch(find_all)

    def _is_alive(self, found: FoundClientToken) -> bool:
        """Return whether all that the token depends on is live, its key's secret included."""
        at = self._clock.now()
        token, key = found.token, found.key
        acts = token.user_id != key.user_id
        return (
            at < token.expires_at
            and key.is_valid(at=at)
            and key.has_secret_hash(token.key_secret_hash, at=at)
            and not (found.is_owner_disabled or found.terms.disabled)
            and (not acts or Scope.ACT_AS in key.scopes)
        )

    def _check_origin(self, bound_to: str | None, came_from: PageOrigin) -> None:
        if bound_to is None or came_from.origin == bound_to:
            return
        # Browsers send no Origin when a page only reads from its own origin.
        is_own = bound_to == self._own_origin and came_from.is_same_origin
        if came_from.origin is not None or not is_own:
            raise WrongOriginError

    async def _user_of_service(self, key: ApiKey, name: str) -> UserTerms:
        """Return the terms of the owner's user, created on first use under the key's plan."""
        user_id = f"{key.user_id}/{checked_user_id(name)}"
        at = self._clock.now()

        async def make(tx: AsyncConnection) -> UserTerms | None:
            auth = AuthRepository(tx)
            await keep_user(tx, key.user_id)
            await auth.ensure_user(user_id, at=at, plan_name=key.plan_name)
            return await auth.find_terms(user_id)

        terms = await self._find_terms(user_id) or await self._database.transact(make)
        assert terms is not None
        if terms.disabled:
            raise UserDisabledError(name)
        return terms

    async def _record_use(self, key: ApiKey) -> None:
        """Write when a key was used, at most once a minute: one per request would cost too much."""
        at = self._clock.now()
        is_recent = key.last_used_at is not None and at - key.last_used_at < _USE_RECORDED_EVERY
        if is_recent or key.id in self._being_recorded:  # by a concurrent request
            return
        self._being_recorded.add(key.id)
        try:
            with suppress(DatabaseUnavailableError):  # a read does not depend on this
                await self._database.transact(
                    lambda tx: AuthRepository(tx).record_use(key.id, at=at)
                )
        finally:
            self._being_recorded.discard(key.id)


def _principal_of_token(found: FoundClientToken) -> Principal:
    """Return what token, key and user's plan all allow, as they are now."""
    token, key, terms = found.token, found.key, found.terms
    return Principal(
        user_id=terms.user_id,
        key_id=key.id,
        scopes=token.scopes & key.scopes & frozenset(CLIENT_SCOPES),
        plan=terms.plan,
        models=_both(_both(terms.models, key.models), token.models),
        policy=Policy(
            zone=terms.zone,
            user=terms.limits,
            key=key.limits,
            key_zone=found.key_zone,
            allowance=token.allowance,
        ),
        job_id=token.job_id,
    )


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    """Return what both lists allow, where None allows everything."""
    if one is None or other is None:
        return other if one is None else one
    return one & other
