"""The statements on plans, users and keys for operators."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.directory.models import Key, Plan, User
from app.db.models import ApiKeyRow, IdempotencyKeyRow, JobRow, PlanRow, UserRow
from app.db.statements import lock_table, newest
from app.db.users import is_of
from app.quotas.limits import to_stored
from app.quotas.policy import stored_limits
from app.storage.discards import discard_users

Record = TypeVar("Record", Plan, User, Key)

_AT_ONCE = 1000  # ids in one statement

_IS_USER_DISABLED = select(UserRow.disabled).where(UserRow.id == ApiKeyRow.user_id)
_KEYS = select(ApiKeyRow, _IS_USER_DISABLED.scalar_subquery().label("user_disabled"))


@dataclass(frozen=True, slots=True)
class Erased:
    users: int
    keys: int
    jobs: int


class DirectoryRepository:
    """Locks rows no harder than an UPDATE does, so that jobs that refer to them go on."""

    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def find_plan(self, name: str, *, lock: bool = False) -> Plan | None:
        return await self._one(select(PlanRow).where(PlanRow.name == name), _plan, lock=lock)

    async def lock_plans(self) -> None:
        """Serialise changes of the default plan; call this before locking anything else."""
        await lock_table(self._tx, PlanRow)

    async def page_plans(self, *, after: str | None, limit: int) -> Sequence[Plan]:
        page = select(PlanRow).order_by(PlanRow.name).limit(limit)
        if after is not None:
            page = page.where(PlanRow.name > after)
        return [_plan(row) for row in await self._tx.execute(page)]

    async def plan_names(self) -> Sequence[str]:
        return list((await self._tx.execute(select(PlanRow.name))).scalars())

    async def add_plan(self, plan: Plan) -> None:
        await self._tx.execute(insert(PlanRow).values(name=plan.name, **_plan_row(plan)))

    async def save_plan(self, plan: Plan) -> None:
        await self._tx.execute(
            update(PlanRow).where(PlanRow.name == plan.name).values(**_plan_row(plan))
        )

    async def delete_plan(self, name: str) -> None:
        """Delete a plan; revoked keys, which no longer create users, lose it."""
        await self._tx.execute(
            update(ApiKeyRow).where(ApiKeyRow.plan_name == name).values(plan_name=None)
        )
        await self._tx.execute(delete(PlanRow).where(PlanRow.name == name))

    async def clear_default(self) -> None:
        """Make room for a new default plan."""
        await self._tx.execute(update(PlanRow).where(PlanRow.is_default).values(is_default=False))

    async def count_on_plan(self, name: str) -> tuple[int, int]:
        """Count the users on a plan, and the keys that would create users on it."""
        users = await self._count(UserRow.id, UserRow.plan_name == name)
        keys = await self._count(
            ApiKeyRow.id, ApiKeyRow.plan_name == name, ApiKeyRow.revoked_at.is_(None)
        )
        return users, keys

    async def count_without_plan(self) -> int:
        return await self._count(UserRow.id, UserRow.plan_name.is_(None))

    async def find_user(self, user_id: str, *, lock: bool = False) -> User | None:
        return await self._one(select(UserRow).where(UserRow.id == user_id), _user, lock=lock)

    async def page_users(
        self, *, plan: str | None, after: str | None, limit: int
    ) -> Sequence[User]:
        page = select(UserRow).order_by(UserRow.id).limit(limit)
        if plan is not None:
            page = page.where(UserRow.plan_name == plan)
        if after is not None:
            page = page.where(UserRow.id > after)
        return [_user(row) for row in await self._tx.execute(page)]

    async def add_user(self, user: User) -> None:
        await self._tx.execute(insert(UserRow).values(id=user.id, **_user_row(user)))

    async def save_user(self, user: User) -> None:
        await self._tx.execute(
            update(UserRow).where(UserRow.id == user.id).values(**_user_row(user))
        )

    async def lock_with_name_space(self, user_id: str) -> Sequence[str]:
        """Lock a user and those of its name space exclusively; return their ids."""
        # The user alone first: whoever adds to its name space holds that lock, and a statement
        # that had to wait for it would not see what was added.
        await self._tx.execute(select(UserRow.id).where(UserRow.id == user_id).with_for_update())
        found = await self._tx.execute(
            select(UserRow.id)
            .where(is_of(UserRow.id, user_id))
            .order_by(UserRow.id)
            .with_for_update()
        )
        return list(found.scalars())

    async def count_live_jobs(self, user_ids: Sequence[str]) -> int:
        live = 0
        for some in _batches(user_ids):
            live += await self._count(
                JobRow.id, JobRow.user_id.in_(some), JobRow.finished_at.is_(None)
            )
        return live

    async def erase_users(self, user_ids: Sequence[str], *, at: datetime) -> Erased:
        """Delete users with their final jobs, files and keys; ledger and accounts stay."""
        jobs = keys = 0
        for some in _batches(user_ids):
            await discard_users(self._tx, some, at=at)
            await self._tx.execute(
                delete(IdempotencyKeyRow).where(IdempotencyKeyRow.user_id.in_(some))
            )
            jobs += (
                await self._tx.execute(delete(JobRow).where(JobRow.user_id.in_(some)))
            ).rowcount
        # The owner's keys made the jobs of the whole name space: keys go after all jobs.
        for some in _batches(user_ids):
            keys += (
                await self._tx.execute(delete(ApiKeyRow).where(ApiKeyRow.user_id.in_(some)))
            ).rowcount
            await self._tx.execute(delete(UserRow).where(UserRow.id.in_(some)))
        return Erased(users=len(user_ids), keys=keys, jobs=jobs)

    async def find_key(self, key_id: str, *, lock: bool = False) -> Key | None:
        return await self._one(_KEYS.where(ApiKeyRow.id == key_id), _key, lock=lock)

    async def page_keys(self, *, user: str | None, before: str | None, limit: int) -> Sequence[Key]:
        keys = _KEYS
        if user is not None:
            keys = keys.where(ApiKeyRow.user_id == user)
        page = newest(keys, by=ApiKeyRow.id, before=before, limit=limit)
        return [_key(row) for row in await self._tx.execute(page)]

    async def add_key(self, key: Key, *, secret_hash: str) -> None:
        await self._tx.execute(
            insert(ApiKeyRow).values(
                id=key.id, user_id=key.user, secret_hash=secret_hash, **_key_row(key)
            )
        )

    async def save_key(self, key: Key) -> None:
        await self._tx.execute(
            update(ApiKeyRow).where(ApiKeyRow.id == key.id).values(**_key_row(key))
        )

    async def replace_secret(self, key: Key, *, secret_hash: str) -> None:
        """Make the current secret the previous one, until `previous_expires_at`."""
        previous = None if key.previous_expires_at is None else ApiKeyRow.secret_hash
        await self._tx.execute(
            update(ApiKeyRow)
            .where(ApiKeyRow.id == key.id)
            .values(
                secret_hash=secret_hash,
                previous_hash=previous,
                previous_expires_at=key.previous_expires_at,
            )
        )

    async def _one(
        self, wanted: Select[Any], read: Callable[[Any], Record], *, lock: bool
    ) -> Record | None:
        if lock:
            wanted = wanted.with_for_update(key_share=True)
        row = (await self._tx.execute(wanted)).one_or_none()
        return None if row is None else read(row)

    async def _count(self, counted: Any, *conditions: ColumnElement[bool]) -> int:
        found = await self._tx.execute(select(func.count(counted)).where(*conditions))
        return found.scalar_one()


def _batches(ids: Sequence[str]) -> Sequence[Sequence[str]]:
    return [ids[first : first + _AT_ONCE] for first in range(0, len(ids), _AT_ONCE)]


def _plan(row: Any) -> Plan:
    return Plan(
        name=row.name,
        timezone=row.timezone,
        default=row.is_default,
        models=_models(row),
        limits=stored_limits(row.limits),
        created_at=row.created_at,
    )


def _plan_row(plan: Plan) -> Mapping[str, Any]:
    return {
        "timezone": plan.timezone,
        "is_default": plan.default,
        "models": None if plan.models is None else list(plan.models),
        "limits": to_stored(plan.limits),
        "created_at": plan.created_at,
    }


def _user(row: Any) -> User:
    return User(
        id=row.id,
        name=row.name,
        plan=row.plan_name,
        limits=stored_limits(row.limits),
        disabled=row.disabled,
        created_at=row.created_at,
    )


def _user_row(user: User) -> Mapping[str, Any]:
    return {
        "name": user.name,
        "plan_name": user.plan,
        "limits": to_stored(user.limits) or None,
        "disabled": user.disabled,
        "created_at": user.created_at,
    }


def _key(row: Any) -> Key:
    return Key(
        id=row.id,
        user=row.user_id,
        user_disabled=row.user_disabled,
        name=row.name,
        scopes=tuple(row.scopes),
        models=_models(row),
        limits=stored_limits(row.limits),
        plan=row.plan_name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        previous_expires_at=row.previous_expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _key_row(key: Key) -> Mapping[str, Any]:
    """Return what operators change; when the key was last used is written elsewhere."""
    return {
        "name": key.name,
        "scopes": list(key.scopes),
        "models": None if key.models is None else list(key.models),
        "limits": to_stored(key.limits) or None,
        "plan_name": key.plan,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


def _models(row: Any) -> tuple[str, ...] | None:
    return None if row.models is None else tuple(row.models)
