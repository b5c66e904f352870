"""Client tokens: made and revoked by the keys of services, for browser apps."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.client_tokens.errors import ClientTokenNotFoundError, TooManyClientTokensError
from app.auth.client_tokens.models import ClientToken, ClientTokenRequest, NewClientToken
from app.auth.client_tokens.repository import ClientTokenRepository
from app.auth.credentials import ClientCredential, hash_secret
from app.auth.errors import MissingScopeError, ModelNotAllowedError
from app.auth.models import Principal
from app.auth.scopes import CLIENT_SCOPES, Scope
from app.core.clock import Clock
from app.core.errors import BROKEN_BODY, FieldError, InvalidRequestError, NotFoundError
from app.core.ids import is_id, new_id
from app.db.engine import Database
from app.db.models import ClientTokenRow
from app.db.pruning import prune

_MOST_LIVE = 10_000
_KEPT_AFTER = timedelta(hours=1)  # so that whoever uses an expired one learns that it expired


class ClientTokens:
    """`origins` are those that a token may be bound to."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        known_models: Callable[[], Collection[str]],
        origins: Collection[str],
    ) -> None:
        self._database = database
        self._clock = clock
        self._known_models = known_models
        self._origins = frozenset(origins)

    async def create(self, asked: ClientTokenRequest, *, principal: Principal) -> NewClientToken:
        """Make a token for the principal's user that may do no more than the principal.

        Raises InvalidRequestError, MissingScopeError, ModelNotAllowedError, NotFoundError or
        TooManyClientTokensError.
        """
        self._check(asked, principal)
        assert principal.secret_hash is not None  # only keys have the scope `tokens`
        at = self._clock.now()
        credential = ClientCredential.make(new_id("ctok"))
        token = ClientToken(
            id=credential.id,
            secret_hash=hash_secret(credential.secret),
            key_id=principal.key_id,
            key_secret_hash=principal.secret_hash,
            user_id=principal.user_id,
            scopes=frozenset(asked.scopes),
            models=None if asked.models is None else frozenset(asked.models),
            job_id=asked.job_id,
            max_jobs=asked.max_jobs,
            max_cost_usd=asked.max_cost_usd,
            origin=asked.origin,
            created_at=at,
            expires_at=at + asked.life,
        )

        async def work(tx: AsyncConnection) -> NewClientToken:
            tokens = ClientTokenRepository(tx)
            if not await tokens.lock_dependencies(token):
                raise NotFoundError("The key, its user or the job was deleted just now.")
            if await tokens.count_live(token.user_id, at=at) >= _MOST_LIVE:
                raise TooManyClientTokensError(_MOST_LIVE)
            await tokens.add(token)
            return NewClientToken(token, credential)

        return await self._database.transact(work)

    async def page(self, *, user_id: str, before: str | None, limit: int) -> Sequence[ClientToken]:
        """Return up to `limit` live tokens of a user, newest first, older than `before`."""
        at = self._clock.now()
        return await self._database.read(
            lambda tx: ClientTokenRepository(tx).page(user_id, at=at, before=before, limit=limit)
        )

    async def revoke(self, token_id: str, *, user_id: str) -> None:
        at = self._clock.now()
        revoked = is_id(token_id, prefix="ctok") and await self._database.transact(
            lambda tx: ClientTokenRepository(tx).delete(token_id, user_id=user_id, at=at)
        )
        if not revoked:
            raise ClientTokenNotFoundError(token_id)

    async def prune(self, *, limit: int = 1000) -> int:
        """Delete up to `limit` tokens that expired a while ago; return how many."""
        end = ClientTokenRow.expires_at
        old = end <= self._clock.now() - _KEPT_AFTER
        return await prune(self._database, ClientTokenRow, old=old, by=end, limit=limit)

    def _check(self, asked: ClientTokenRequest, principal: Principal) -> None:
        faults = [*_scope_faults(asked.scopes), *self._model_faults(asked.models or ())]
        if asked.origin is not None and asked.origin not in self._origins:
            detail = (
                "/origin is neither one of GATEWAY_CORS_ORIGINS nor the gateway's own; write it as"
                " browsers send it, like https://app.example."
            )
            faults.append(FieldError(pointer="/origin", code="unknown_origin", detail=detail))
        if faults:
            raise InvalidRequestError(BROKEN_BODY, errors=faults)
        for scope in asked.scopes:
            if scope not in principal.scopes:
                raise MissingScopeError(scope)
        for model in asked.models or ():
            if principal.models is not None and model not in principal.models:
                raise ModelNotAllowedError(model)

    def _model_faults(self, models: Sequence[str]) -> Iterator[FieldError]:
        known = self._known_models()
        for index, model in enumerate(models):
            if model not in known:
                pointer = f"/models/{index}"
                detail = f"{pointer} is not a model of this gateway; GET /v1/models lists them."
                yield FieldError(pointer=pointer, code="unknown_model", detail=detail)


def _scope_faults(scopes: Sequence[str]) -> Iterator[FieldError]:
    grantable = ", ".join(CLIENT_SCOPES)
    for index, scope in enumerate(scopes):
        if scope in CLIENT_SCOPES:
            continue
        pointer = f"/scopes/{index}"
        if scope in set(Scope):
            code, flaw = "not_for_clients", "is not something a client token may have"
        else:
            code, flaw = "unknown_scope", "is no scope"
        yield FieldError(
            pointer=pointer, code=code, detail=f"{pointer} {flaw}; it can have {grantable}."
        )
