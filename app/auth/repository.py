"""The statements on users and their keys."""

import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from app.auth.client_tokens.models import ClientToken
from app.auth.client_tokens.repository import CLIENT_TOKEN, client_token_from_row
from app.auth.credentials import hash_secret
from app.db.models import ApiKeyRow, ClientTokenRow, PlanRow, UserRow
from app.db.prepared import made_once
from app.db.statements import among, insert_into
from app.db.users import is_plan_of
from app.quotas.policy import Limit, LimitName, stored_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    id: str
    user_id: str
    secret_hash: str
    previous_hash: str | None
    previous_expires_at: datetime | None
    scopes: frozenset[str]
    models: frozenset[str] | None
    limits: dict[LimitName, Limit]
    plan_name: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def is_valid(self, *, at: datetime) -> bool:
        expired = self.expires_at is not None and self.expires_at <= at
        return not (expired or self.revoked_at)

    def opens_with(self, secret: str, *, at: datetime) -> bool:
        """Compare with the secret and, for a while after a rotation, with the one before."""
        return self.has_secret_hash(hash_secret(secret), at=at)

    def has_secret_hash(self, secret_hash: str, *, at: datetime) -> bool:
        if hmac.compare_digest(secret_hash, self.secret_hash):
            return True
        overlaps = self.previous_expires_at is not None and at < self.previous_expires_at
        previous = self.previous_hash
        return overlaps and previous is not None and hmac.compare_digest(secret_hash, previous)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTerms:
    """What a user's plan and overrides add up to; without any plan there are no limits.

    `own_plan` is None for a user on the default plan.
    """

    user_id: str
    disabled: bool
    plan: str | None
    own_plan: str | None
    zone: ZoneInfo
    models: frozenset[str] | None
    limits: dict[LimitName, Limit]


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key with its owner's terms."""

    key: ApiKey
    terms: UserTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundClientToken:
    """A client token with all it depends on: its key, the key's owner, and its user's terms."""

    token: ClientToken
    key: ApiKey
    is_owner_disabled: bool
    key_zone: ZoneInfo
    terms: UserTerms


class AuthRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def find_key(self, key_id: str) -> FoundKey | None:
        return (await self.find_held_keys([key_id])).get(key_id)

    async def find_held_keys(self, key_ids: Collection[str]) -> Mapping[str, FoundKey]:
        found = await self._tx.execute(_HELD_KEYS, {"ids": sorted(set(key_ids))})
        return {row.key_id: FoundKey(_key(row), _terms(row)) for row in found}

    async def find_keys(self, key_ids: Collection[str]) -> Mapping[str, ApiKey]:
        """Find the keys whose owners are not disabled; each with its owner."""
        found = await self._tx.execute(
            select(*_KEY, UserRow.id.label("user_id"))
            .join(UserRow, UserRow.id == ApiKeyRow.user_id)
            .where(ApiKeyRow.id.in_(key_ids), UserRow.disabled.is_(False))
        )
        return {row.key_id: _key(row) for row in found}

    async def find_client_tokens(
        self, token_ids: Collection[str]
    ) -> Mapping[str, FoundClientToken]:
        found = await self._tx.execute(_CLIENT_TOKENS, {"ids": sorted(set(token_ids))})
        return {row.client_id: _found_client_token(row) for row in found}

    async def find_terms(self, user_id: str) -> UserTerms | None:
        return (await self.find_terms_of([user_id])).get(user_id)

    async def find_terms_of(self, user_ids: Collection[str]) -> Mapping[str, UserTerms]:
        found = await self._tx.execute(_TERMS_OF, {"ids": sorted(set(user_ids))})
        return {row.user_id: _terms(row) for row in found}

    async def record_use(self, key_id: str, *, at: datetime) -> None:
        await self._tx.execute(
            update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(last_used_at=at)
        )

    async def ensure_user(
        self, user_id: str, *, at: datetime, plan_name: str | None = None
    ) -> None:
        await self._tx.execute(
            insert_into(self._tx, UserRow)
            .values(id=user_id, disabled=False, plan_name=plan_name, created_at=at)
            .on_conflict_do_nothing()
        )

    async def ensure_sign_in_key(
        self, key_id: str, *, user_id: str, scopes: Sequence[str], at: datetime
    ) -> None:
        """Make the key that stands for a user's sign-ins; no secret matches its hash."""
        await self._tx.execute(
            insert_into(self._tx, ApiKeyRow)
            .values(
                id=key_id,
                user_id=user_id,
                name="oidc",
                secret_hash="",
                scopes=list(scopes),
                created_at=at,
            )
            .on_conflict_do_nothing()
        )


_KEY = (
    ApiKeyRow.id.label("key_id"),
    ApiKeyRow.secret_hash,
    ApiKeyRow.previous_hash,
    ApiKeyRow.previous_expires_at,
    ApiKeyRow.scopes,
    ApiKeyRow.models.label("key_models"),
    ApiKeyRow.limits.label("key_limits"),
    ApiKeyRow.plan_name.label("key_plan_name"),
    ApiKeyRow.expires_at,
    ApiKeyRow.revoked_at,
    ApiKeyRow.last_used_at,
)
_TERMS = (
    UserRow.id.label("user_id"),
    UserRow.disabled,
    UserRow.plan_name.label("user_plan_name"),
    UserRow.limits.label("user_limits"),
    PlanRow.name.label("plan"),
    PlanRow.timezone,
    PlanRow.models.label("plan_models"),
    PlanRow.limits.label("plan_limits"),
)


_PLAN_OF_USER = is_plan_of(PlanRow, UserRow)
_HELD_KEYS = made_once(
    select(*_KEY, *_TERMS)
    .select_from(ApiKeyRow)
    .join(UserRow, UserRow.id == ApiKeyRow.user_id)
    .outerjoin(PlanRow, _PLAN_OF_USER)
    .where(among(ApiKeyRow.id, "ids"))
)
_TERMS_OF = made_once(
    select(*_TERMS)
    .select_from(UserRow)
    .outerjoin(PlanRow, _PLAN_OF_USER)
    .where(among(UserRow.id, "ids"))
)
_Owner = aliased(UserRow, name="owners")
_OwnersPlan = aliased(PlanRow, name="owners_plans")
_CLIENT_TOKENS = made_once(
    select(
        *CLIENT_TOKEN,
        *_KEY,
        *_TERMS,
        _Owner.id.label("owner_id"),
        _Owner.disabled.label("owner_disabled"),
        _OwnersPlan.timezone.label("owners_timezone"),
    )
    .select_from(ClientTokenRow)
    .join(ApiKeyRow, ApiKeyRow.id == ClientTokenRow.key_id)
    .join(_Owner, _Owner.id == ApiKeyRow.user_id)
    .outerjoin(_OwnersPlan, is_plan_of(_OwnersPlan, _Owner))
    .join(UserRow, UserRow.id == ClientTokenRow.user_id)
    .outerjoin(PlanRow, _PLAN_OF_USER)
    .where(among(ClientTokenRow.id, "ids"))
)


def _key(row: Any) -> ApiKey:
    return ApiKey(
        id=row.key_id,
        user_id=row.user_id,
        secret_hash=row.secret_hash,
        previous_hash=row.previous_hash,
        previous_expires_at=row.previous_expires_at,
        scopes=frozenset(row.scopes),
        models=None if row.key_models is None else frozenset(row.key_models),
        limits=stored_limits(row.key_limits),
        plan_name=row.key_plan_name,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _found_client_token(row: Any) -> FoundClientToken:
    return FoundClientToken(
        token=client_token_from_row(row),
        key=replace(_key(row), user_id=row.owner_id),
        is_owner_disabled=row.owner_disabled,
        key_zone=ZoneInfo(row.owners_timezone or "UTC"),
        terms=_terms(row),
    )


def _terms(row: Any) -> UserTerms:
    return UserTerms(
        user_id=row.user_id,
        disabled=row.disabled,
        plan=row.plan,
        own_plan=row.user_plan_name,
        zone=ZoneInfo(row.timezone or "UTC"),
        models=None if row.plan_models is None else frozenset(row.plan_models),
        limits=stored_limits(row.plan_limits) | stored_limits(row.user_limits),
    )
