"""The statements on users and their keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import ApiKeyRow, UserRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    id: str
    user_id: str
    secret_hash: str
    scopes: frozenset[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    user_disabled: bool

    def is_valid(self, *, at: datetime) -> bool:
        expired = self.expires_at is not None and self.expires_at <= at
        return not (expired or self.revoked_at or self.user_disabled)


class AuthRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def find_key(self, key_id: str) -> ApiKey | None:
        found = await self._tx.execute(
            select(
                ApiKeyRow.id,
                ApiKeyRow.user_id,
                ApiKeyRow.secret_hash,
                ApiKeyRow.scopes,
                ApiKeyRow.expires_at,
                ApiKeyRow.revoked_at,
                UserRow.disabled,
            )
            .join(UserRow, UserRow.id == ApiKeyRow.user_id)
            .where(ApiKeyRow.id == key_id)
        )
        row = found.one_or_none()
        if row is None:
            return None
        return ApiKey(
            id=row.id,
            user_id=row.user_id,
            secret_hash=row.secret_hash,
            scopes=frozenset(row.scopes),
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            user_disabled=row.disabled,
        )

    async def ensure_user(self, user_id: str, *, at: datetime) -> None:
        dialect = sqlite if self._tx.dialect.name == "sqlite" else postgresql
        await self._tx.execute(
            dialect.insert(UserRow)
            .values(id=user_id, disabled=False, created_at=at)
            .on_conflict_do_nothing()
        )

    async def add_key(
        self,
        *,
        key_id: str,
        user_id: str,
        name: str,
        secret_hash: str,
        scopes: Sequence[str],
        at: datetime,
    ) -> None:
        await self._tx.execute(
            insert(ApiKeyRow).values(
                id=key_id,
                user_id=user_id,
                name=name,
                secret_hash=secret_hash,
                scopes=list(scopes),
                created_at=at,
            )
        )
