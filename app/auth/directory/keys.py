"""Keys: made, changed, rotated and revoked by operators."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.credentials import KeyCredential, hash_secret
from app.auth.directory.checks import Faults, check_plan, could_be_user_id
from app.auth.directory.errors import KeyNotFoundError, KeyRevokedError
from app.auth.directory.models import Key, KeyChanges, NewSecret, User
from app.auth.directory.recording import record
from app.auth.directory.repository import DirectoryRepository
from app.auth.directory.users import save_new
from app.auth.models import checked_user_id
from app.auth.scopes import Scope
from app.core.clock import Clock
from app.core.ids import is_id, new_id
from app.db.engine import Database
from app.quotas.limits import changed


class KeyDirectory:
    """`actor` is an admin token's name, `cli:<os user>` or `system`."""

    def __init__(
        self, *, database: Database, clock: Clock, known_models: Callable[[], Collection[str]]
    ) -> None:
        self._database = database
        self._clock = clock
        self._known_models = known_models

    async def page(self, *, user: str | None, before: str | None, limit: int) -> Sequence[Key]:
        """Return up to `limit` keys, newest first, of one user or all, older than `before`."""
        return await self._database.read(
            lambda tx: DirectoryRepository(tx).page_keys(user=user, before=before, limit=limit)
        )

    async def get(self, key_id: str) -> Key:
        return await self._database.read(lambda tx: _find(DirectoryRepository(tx), key_id))

    async def create(
        self, user_id: str, changes: KeyChanges, *, actor: str, make_user: bool = False
    ) -> NewSecret:
        """Make a key for a user, who must exist unless `make_user` is set."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> NewSecret:
            repository = DirectoryRepository(tx)
            if make_user:
                await _ensure_user(tx, user_id, at=at, actor=actor)
            faults = Faults()
            user = await repository.find_user(user_id)
            if user is None:
                faults.add("/user", "unknown_user", "is not a user of this gateway; make it first")
            credential = KeyCredential.make(new_id("key"))
            disabled = user is not None and user.disabled
            empty = Key(id=credential.id, user=user_id, user_disabled=disabled, created_at=at)
            key = await self._changed(repository, empty, changes, faults, at=at)
            faults.raise_any()
            await repository.add_key(key, secret_hash=hash_secret(credential.secret))
            await record(tx, "key.created", key, actor=actor, at=at)
            return NewSecret(key, credential)

        return await self._database.transact(work)

    async def change(self, key_id: str, changes: KeyChanges, *, actor: str) -> Key:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Key:
            repository = DirectoryRepository(tx)
            before = await _find(repository, key_id, lock=True)
            _refuse_revoked(before)
            faults = Faults()
            key = await self._changed(repository, before, changes, faults, at=at)
            faults.raise_any()
            if key == before:
                return before
            await repository.save_key(key)
            await record(tx, "key.changed", key, before=before, actor=actor, at=at)
            return key

        return await self._database.transact(work)

    async def rotate(self, key_id: str, *, overlap: timedelta, actor: str) -> NewSecret:
        """Give the key a new secret; the current one stays valid for `overlap`, older ones end."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> NewSecret:
            repository = DirectoryRepository(tx)
            before = await _find(repository, key_id, lock=True)
            _refuse_revoked(before)
            credential = KeyCredential.make(key_id)
            key = replace(before, previous_expires_at=at + overlap if overlap else None)
            await repository.replace_secret(key, secret_hash=hash_secret(credential.secret))
            await record(tx, "key.rotated", key, before=before, actor=actor, at=at)
            return NewSecret(key, credential)

        return await self._database.transact(work)

    async def revoke(self, key_id: str, *, actor: str) -> None:
        """Revoke a key for good; its row stays, since jobs name it. Idempotent."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> None:
            repository = DirectoryRepository(tx)
            before = await _find(repository, key_id, lock=True)
            if before.revoked_at is not None:
                return
            key = replace(before, revoked_at=at)
            await repository.save_key(key)
            await record(tx, "key.revoked", key, before=before, actor=actor, at=at)

        await self._database.transact(work)

    async def _changed(
        self,
        repository: DirectoryRepository,
        key: Key,
        changes: KeyChanges,
        faults: Faults,
        *,
        at: datetime,
    ) -> Key:
        scopes = faults.scopes(changes["scopes"]) if "scopes" in changes else key.scopes
        models = key.models
        if "models" in changes:
            models = faults.models(changes["models"], known=self._known_models())
        expires_at = changes.get("expires_at", key.expires_at)
        if "expires_at" in changes:
            faults.expiry(expires_at, at=at)
        plan = changes.get("plan", key.plan)
        acts = Scope.ACT_AS in scopes
        if acts and "/" in key.user:
            faults.add(
                "/scopes", "act_as_refused", "cannot have act_as: the user belongs to another one"
            )
        if plan is not None and not acts:
            faults.add("/plan", "needs_act_as", "is for keys with the scope act_as only")
        elif plan is not None and plan != key.plan:
            await check_plan(repository, faults, plan)
        return replace(
            key,
            name=changes.get("name", key.name),
            scopes=scopes,
            models=models,
            limits=changed(key.limits, faults.limits(changes.get("limits", {}))),
            plan=plan,
            expires_at=expires_at,
        )


async def _find(repository: DirectoryRepository, key_id: str, *, lock: bool = False) -> Key:
    key = await repository.find_key(key_id, lock=lock) if is_id(key_id, prefix="key") else None
    if key is None:
        raise KeyNotFoundError(key_id)
    return key


def _refuse_revoked(key: Key) -> None:
    if key.revoked_at is not None:
        raise KeyRevokedError


async def _ensure_user(tx: AsyncConnection, user_id: str, *, at: datetime, actor: str) -> None:
    if could_be_user_id(user_id) and await DirectoryRepository(tx).find_user(user_id):
        return
    checked_user_id(user_id)  # of a new user: only those of services' users contain a slash
    await save_new(tx, User(id=user_id, created_at=at), actor=actor)
