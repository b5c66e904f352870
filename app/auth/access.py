"""Rechecks callers who stay connected: the access they came with may have ended."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.models import Holder
from app.auth.repository import ApiKey, AuthRepository
from app.auth.scopes import Scope
from app.core.clock import Clock
from app.db.engine import Database
from app.db.models import ClientTokenRow, UserRow


class AccessCheck:
    """Takes three statements at most, however many callers are checked."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def lost(self, holders: Collection[Holder]) -> Collection[Holder]:
        """Return those whose key, token or user has ended, or who lost a permission they need."""
        at = self._clock.now()

        async def work(connection: AsyncConnection) -> Collection[Holder]:
            keys = await AuthRepository(connection).find_keys({each.key_id for each in holders})
            users = await _enabled_users(connection, {each.user_id for each in holders})
            tokens = await _live_tokens(connection, holders, at=at)
            return {
                each
                for each in holders
                if (each.ends_at is not None and each.ends_at <= at)
                or each.user_id not in users
                or (each.token_id is not None and each.token_id not in tokens)
                or not _admits(keys.get(each.key_id), each, tokens.get(each.token_id), at=at)
            }

        return await self._database.read(work)


def _admits(key: ApiKey | None, holder: Holder, secret_hash: str | None, *, at: datetime) -> bool:
    """Return whether the key is valid with the secret that was sent, or that made the token."""
    if key is None or not key.is_valid(at=at) or not holder.needs <= key.scopes:
        return False
    if holder.user_id != key.user_id and Scope.ACT_AS not in key.scopes:
        return False
    used = secret_hash or holder.secret_hash
    return used is None or key.has_secret_hash(used, at=at)


async def _enabled_users(connection: AsyncConnection, user_ids: Collection[str]) -> set[str]:
    found = await connection.execute(
        select(UserRow.id).where(UserRow.id.in_(user_ids), UserRow.disabled.is_(False))
    )
    return set(found.scalars())


async def _live_tokens(
    connection: AsyncConnection, holders: Collection[Holder], *, at: datetime
) -> dict[str | None, str]:
    """Return the live client tokens, each with the hash of the key's secret that made it."""
    wanted = {holder.token_id for holder in holders if holder.token_id is not None}
    if not wanted:
        return {}
    found = await connection.execute(
        select(ClientTokenRow.id, ClientTokenRow.key_secret_hash).where(
            ClientTokenRow.id.in_(wanted), ClientTokenRow.expires_at > at
        )
    )
    return {row.id: row.key_secret_hash for row in found}
