"""What every room may ask about a user."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.owners import owner_of
from app.db.models import UserRow


async def disabled_among(tx: AsyncConnection, user_ids: Collection[str]) -> set[str]:
    """Return which users are disabled, themselves or with the service that acts for them."""
    asked = {user_id: {user_id, owner_of(user_id)} for user_id in user_ids}
    found = await tx.execute(
        select(UserRow.id).where(
            UserRow.id.in_(set().union(*asked.values())), UserRow.disabled.is_(True)
        )
    )
    disabled = {row.id for row in found}
    return {user_id for user_id, either in asked.items() if either & disabled}
