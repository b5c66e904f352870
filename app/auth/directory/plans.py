"""Plans: made, changed and deleted by operators."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.directory.checks import Faults, is_plan_name
from app.auth.directory.errors import (
    DefaultPlanInUseError,
    PlanExistsError,
    PlanInUseError,
    PlanNotFoundError,
)
from app.auth.directory.models import Plan, PlanChanges
from app.auth.directory.recording import record, record_deletion
from app.auth.directory.repository import DirectoryRepository
from app.core.clock import Clock
from app.db.engine import Database
from app.quotas.limits import changed


class PlanDirectory:
    """`actor` is an admin token's name, `cli:<os user>` or `system`."""

    def __init__(
        self, *, database: Database, clock: Clock, known_models: Callable[[], Collection[str]]
    ) -> None:
        self._database = database
        self._clock = clock
        self._known_models = known_models

    async def page(self, *, after: str | None, limit: int) -> Sequence[Plan]:
        """Return up to `limit` plans by name, beginning after the plan `after`."""
        return await self._database.read(
            lambda tx: DirectoryRepository(tx).page_plans(after=after, limit=limit)
        )

    async def get(self, name: str) -> Plan:
        return await self._database.read(lambda tx: _find(DirectoryRepository(tx), name))

    async def create(self, name: str, changes: PlanChanges, *, actor: str) -> Plan:
        """Make a plan; a new default replaces the current one."""
        at = self._clock.now()
        faults = Faults()
        faults.plan_name(name)
        plan = self._changed(Plan(name=name, created_at=at), changes, faults)
        faults.raise_any()

        async def work(tx: AsyncConnection) -> Plan:
            repository = DirectoryRepository(tx)
            if plan.default:
                await repository.lock_plans()
            if await repository.find_plan(name):
                raise PlanExistsError(name)
            if plan.default:
                await repository.clear_default()
            await repository.add_plan(plan)
            await record(tx, "plan.created", plan, actor=actor, at=at)
            return plan

        return await self._database.transact(work)

    async def change(self, name: str, changes: PlanChanges, *, actor: str) -> Plan:
        """Change the given fields; windows move with the time zone, without losing usage."""
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Plan:
            repository = DirectoryRepository(tx)
            if "default" in changes:
                await repository.lock_plans()
            before = await _find(repository, name, lock=True)
            faults = Faults()
            plan = self._changed(before, changes, faults)
            faults.raise_any()
            if plan == before:
                return before
            if before.default and not plan.default:
                await _refuse_while_default(repository, name)
            if plan.default and not before.default:
                await repository.clear_default()
            await repository.save_plan(plan)
            await record(tx, "plan.changed", plan, before=before, actor=actor, at=at)
            return plan

        return await self._database.transact(work)

    async def delete(self, name: str, *, actor: str) -> None:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> None:
            repository = DirectoryRepository(tx)
            plan = await _find(repository, name, lock=True)
            users, keys = await repository.count_on_plan(name)
            if users or keys:
                raise PlanInUseError(name, users=users, keys=keys)
            if plan.default:
                await _refuse_while_default(repository, name)
            await repository.delete_plan(name)
            await record_deletion(tx, "plan.deleted", plan, actor=actor, at=at)

        await self._database.transact(work)

    def _changed(self, plan: Plan, changes: PlanChanges, faults: Faults) -> Plan:
        timezone = changes.get("timezone", plan.timezone)
        if "timezone" in changes:
            faults.timezone(timezone)
        models = plan.models
        if "models" in changes:
            models = faults.models(changes["models"], known=self._known_models())
        return replace(
            plan,
            timezone=timezone,
            default=changes.get("default", plan.default),
            models=models,
            limits=changed(plan.limits, faults.limits(changes.get("limits", {}))),
        )


async def _find(repository: DirectoryRepository, name: str, *, lock: bool = False) -> Plan:
    plan = await repository.find_plan(name, lock=lock) if is_plan_name(name) else None
    if plan is None:
        raise PlanNotFoundError(name)
    return plan


async def _refuse_while_default(repository: DirectoryRepository, name: str) -> None:
    if users := await repository.count_without_plan():
        raise DefaultPlanInUseError(name, users=users)
