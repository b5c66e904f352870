"""What several rooms need to know about users."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import UserGoneError
from app.core.owners import owner_of
from app.db.models import PlanRow, UserRow
from app.db.prepared import made_once
from app.db.statements import among

_DISABLED = made_once(
    select(UserRow.id).where(among(UserRow.id, "ids"), UserRow.disabled.is_(True))
)


async def keep_user(tx: AsyncConnection, user_id: str) -> None:
    """Keep a user from being deleted until the transaction ends, or raise UserGoneError."""
    await _lock(tx, user_id, is_shared=True)


async def lock_user(tx: AsyncConnection, user_id: str) -> None:
    """Do so, too, and make those who add rows for the user take turns."""
    await _lock(tx, user_id, is_shared=False)


async def disabled_among(tx: AsyncConnection, user_ids: Collection[str]) -> set[str]:
    """Return which users are disabled, themselves or with the service that acts for them."""
    asked = {user_id: {user_id, owner_of(user_id)} for user_id in user_ids}
    either_of_all = sorted(set().union(*asked.values()))
    disabled = {row.id for row in await tx.execute(_DISABLED, {"ids": either_of_all})}
    return {user_id for user_id, either in asked.items() if either & disabled}


def is_of(user_id: SQLColumnExpression[str], owner: str) -> ColumnElement[bool]:
    """The condition for the owner itself and the users that it acts for."""
    # Not LIKE, to which shop/ and SHOP/ are the same on SQLite.
    name_space = f"{owner}/"
    return or_(user_id == owner, func.substr(user_id, 1, len(name_space)) == name_space)


def is_plan_of(plan: type[PlanRow], user: type[UserRow]) -> ColumnElement[bool]:
    """The condition for the plan that a user has: their own, or else the default one."""
    return or_(plan.name == user.plan_name, and_(user.plan_name.is_(None), plan.is_default))


async def _lock(tx: AsyncConnection, user_id: str, *, is_shared: bool) -> None:
    user = select(UserRow.id).where(UserRow.id == user_id)
    found = await tx.execute(user.with_for_update(read=is_shared, key_share=True))
    if found.one_or_none() is None:
        raise UserGoneError
