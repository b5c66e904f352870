"""The statements on client tokens; requests look them up through `auth/repository.py`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.client_tokens.models import ClientToken
from app.db.models import ApiKeyRow, ClientTokenRow, JobRow, UserRow
from app.db.statements import newest
from app.quotas.policy import Measure, from_units, to_units


class ClientTokenRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def lock_dependencies(self, token: ClientToken) -> bool:
        """Return whether key, user and job exist; lock them against deletion until commit."""
        key_and_user = (
            select(ApiKeyRow.id)
            .join(UserRow, UserRow.id == token.user_id)
            .where(ApiKeyRow.id == token.key_id)
        )
        wanted = [key_and_user]
        if token.job_id is not None:
            wanted.append(
                select(JobRow.id).where(JobRow.id == token.job_id, JobRow.user_id == token.user_id)
            )
        for each in wanted:
            found = await self._tx.execute(each.with_for_update(read=True, key_share=True))
            if found.scalar_one_or_none() is None:
                return False
        return True

    async def count_live(self, user_id: str, *, at: datetime) -> int:
        found = await self._tx.execute(
            select(func.count()).where(
                ClientTokenRow.user_id == user_id, ClientTokenRow.expires_at > at
            )
        )
        return found.scalar_one()

    async def add(self, token: ClientToken) -> None:
        cost = token.max_cost_usd
        await self._tx.execute(
            insert(ClientTokenRow).values(
                id=token.id,
                secret_hash=token.secret_hash,
                key_id=token.key_id,
                key_secret_hash=token.key_secret_hash,
                user_id=token.user_id,
                scopes=sorted(token.scopes),
                models=None if token.models is None else sorted(token.models),
                job_id=token.job_id,
                max_jobs=token.max_jobs,
                max_micro_usd=None if cost is None else to_units(Measure.MICRO_USD, cost),
                origin=token.origin,
                created_at=token.created_at,
                expires_at=token.expires_at,
            )
        )

    async def page(
        self, user_id: str, *, at: datetime, before: str | None, limit: int
    ) -> Sequence[ClientToken]:
        live = select(*CLIENT_TOKEN).where(
            ClientTokenRow.user_id == user_id, ClientTokenRow.expires_at > at
        )
        page = newest(live, by=ClientTokenRow.id, before=before, limit=limit)
        return [client_token_from_row(row) for row in await self._tx.execute(page)]

    async def delete(self, token_id: str, *, user_id: str, at: datetime) -> bool:
        gone = await self._tx.execute(
            delete(ClientTokenRow)
            .where(
                ClientTokenRow.id == token_id,
                ClientTokenRow.user_id == user_id,
                ClientTokenRow.expires_at > at,
            )
            .returning(ClientTokenRow.id)
        )
        return gone.scalar_one_or_none() is not None


CLIENT_TOKEN = (
    ClientTokenRow.id.label("client_id"),
    ClientTokenRow.secret_hash.label("client_hash"),
    ClientTokenRow.key_id.label("client_key_id"),
    ClientTokenRow.key_secret_hash.label("client_key_hash"),
    ClientTokenRow.user_id.label("client_user_id"),
    ClientTokenRow.scopes.label("client_scopes"),
    ClientTokenRow.models.label("client_models"),
    ClientTokenRow.job_id.label("client_job_id"),
    ClientTokenRow.max_jobs,
    ClientTokenRow.max_micro_usd,
    ClientTokenRow.origin,
    ClientTokenRow.created_at.label("client_created_at"),
    ClientTokenRow.expires_at.label("client_expires_at"),
)
"""Labelled, since a request reads it together with its key."""


def client_token_from_row(row: Any) -> ClientToken:
    cost = row.max_micro_usd
    return ClientToken(
        id=row.client_id,
        secret_hash=row.client_hash,
        key_id=row.client_key_id,
        key_secret_hash=row.client_key_hash,
        user_id=row.client_user_id,
        scopes=frozenset(row.client_scopes),
        models=None if row.client_models is None else frozenset(row.client_models),
        job_id=row.client_job_id,
        max_jobs=row.max_jobs,
        max_cost_usd=None if cost is None else from_units(Measure.MICRO_USD, cost),
        origin=row.origin,
        created_at=row.client_created_at,
        expires_at=row.client_expires_at,
    )
