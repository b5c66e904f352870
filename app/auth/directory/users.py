"""Users: made, changed and erased by operators."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.directory.checks import Faults, check_plan, could_be_user_id
from app.auth.directory.errors import UserExistsError, UserHasLiveJobsError, UserNotFoundError
from app.auth.directory.models import User, UserChanges
from app.auth.directory.recording import record, record_deletion
from app.auth.directory.repository import DirectoryRepository, Erased
from app.auth.repository import AuthRepository
from app.core.clock import Clock
from app.db.engine import Database
from app.quotas.limits import changed
from app.quotas.policy import Policy


class UserDirectory:
    """`actor` is an admin token's name, `cli:<os user>` or `system`."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def page(self, *, plan: str | None, after: str | None, limit: int) -> Sequence[User]:
        """Return up to `limit` users by id, of one plan or all, after the user `after`."""
        return await self._database.read(
            lambda tx: DirectoryRepository(tx).page_users(plan=plan, after=after, limit=limit)
        )

    async def get(self, user_id: str) -> User:
        return await self._database.read(lambda tx: _find(DirectoryRepository(tx), user_id))

    async def policy(self, user_id: str) -> Policy:
        """Return a user's limits from plan and overrides, without those of keys."""

        async def work(connection: AsyncConnection) -> Policy:
            user = await _find(DirectoryRepository(connection), user_id)
            terms = await AuthRepository(connection).find_terms(user.id)
            assert terms is not None
            return Policy(zone=terms.zone, user=terms.limits, key={})

        return await self._database.read(work)

    async def create(self, user_id: str, changes: UserChanges, *, actor: str) -> User:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> User:
            repository = DirectoryRepository(tx)
            faults = Faults()
            faults.user_id(user_id)
            user = await _changed(repository, User(id=user_id, created_at=at), changes, faults)
            faults.raise_any()
            if await repository.find_user(user_id):
                raise UserExistsError(user_id)
            await save_new(tx, user, actor=actor)
            return user

        return await self._database.transact(work)

    async def change(self, user_id: str, changes: UserChanges, *, actor: str) -> User:
        """Change the given fields."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> User:
            repository = DirectoryRepository(tx)
            before = await _find(repository, user_id, lock=True)
            faults = Faults()
            user = await _changed(repository, before, changes, faults)
            faults.raise_any()
            if user == before:
                return before
            await save_changed(tx, user, before=before, actor=actor, at=at)
            return user

        return await self._database.transact(work)

    async def erase(self, user_id: str, *, actor: str) -> Erased:
        """Delete a user and the users of its name space: jobs, keys and rows; the ledger stays.

        The name space goes too, since the next owner of the id could act for the users in it.
        """
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Erased:
            repository = DirectoryRepository(tx)
            user = await _find(repository, user_id, lock=True)  # rivals then find nobody
            user_ids = await repository.lock_with_name_space(user_id)
            if live := await repository.count_live_jobs(user_ids):
                raise UserHasLiveJobsError(user_id, jobs=live)
            erased = await repository.erase_users(user_ids, at=at)
            await record_deletion(
                tx, "user.deleted", user, erased=asdict(erased), actor=actor, at=at
            )
            return erased

        return await self._database.transact(work, is_long=True)


async def save_new(tx: AsyncConnection, user: User, *, actor: str) -> None:
    await DirectoryRepository(tx).add_user(user)
    await record(tx, "user.created", user, actor=actor, at=user.created_at)


async def save_changed(
    tx: AsyncConnection, user: User, *, before: User, actor: str, at: datetime
) -> None:
    await DirectoryRepository(tx).save_user(user)
    await record(tx, "user.changed", user, before=before, actor=actor, at=at)


async def _find(repository: DirectoryRepository, user_id: str, *, lock: bool = False) -> User:
    known = could_be_user_id(user_id)
    user = await repository.find_user(user_id, lock=lock) if known else None
    if user is None:
        raise UserNotFoundError(user_id)
    return user


async def _changed(
    repository: DirectoryRepository, user: User, changes: UserChanges, faults: Faults
) -> User:
    plan = changes.get("plan", user.plan)
    if plan is not None and plan != user.plan:
        await check_plan(repository, faults, plan)
    return replace(
        user,
        name=changes.get("name", user.name),
        plan=plan,
        limits=changed(user.limits, faults.limits(changes.get("limits", {}))),
        disabled=changes.get("disabled", user.disabled),
    )
